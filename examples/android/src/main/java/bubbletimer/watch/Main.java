package bubbletimer.watch;

import bubbletimer.client.BubbleClient;
import bubbletimer.client.TokenSource;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import okhttp3.OkHttpClient;

/**
 * Prints the timers of a user as they change, and takes commands, one a line: what an app would do with the client.
 *
 * <pre>
 * java -jar target/bubble-timer-example.jar --user alice              a server in development mode: make run
 * java -jar target/bubble-timer-example.jar --url wss://example.org/ws --token-file token.txt
 * </pre>
 */
public final class Main {
    private static final String USAGE = """
            --url URL          of the socket; ws://127.0.0.1:8080/ws if it is not given
            --user NAME        get a token for this user from a server in development mode
            --token-file FILE  has the token; read again whenever one is needed
            --device ID        of this device; default: example
            --json             one JSON object a line, for programs
            """;

    private Main() {}

    public static void main(String[] arguments) throws IOException {
        Map<String, String> options = options(arguments);
        String url = options.getOrDefault("url", "ws://127.0.0.1:8080/ws");
        OkHttpClient http = new OkHttpClient();
        TokenSource tokens;
        if (options.containsKey("token-file")) tokens = refused -> read(Path.of(options.get("token-file")));
        else if (options.containsKey("user")) tokens = new DevTokens(http, url, options.get("user"));
        else throw usage("One of --user and --token-file is needed.");

        Screen screen = options.containsKey("json") ? new JsonScreen(System.out) : new TextScreen(System.out);
        BubbleClient client =
                new BubbleClient.Builder(http, url, options.getOrDefault("device", "example"), tokens, screen).build();
        screen.begin(client.clock());
        Runtime.getRuntime().addShutdownHook(new Thread(client::close));
        client.start();

        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = input.readLine()) != null; ) {
            if (line.isBlank()) continue;
            String command = line.strip();
            if (command.equals("quit")) System.exit(0);
            try {
                client.send(CommandLine.parse(command)).whenComplete((reply, error) -> {
                    if (error == null) screen.done(command, reply);
                    else screen.failed(command, error);
                });
            } catch (IllegalArgumentException error) {
                screen.failed(command, error);
            }
        }
        waitForSignal(); // nobody types: watch
    }

    private static void waitForSignal() {
        try {
            Thread.currentThread().join();
        } catch (InterruptedException error) {
            System.exit(0);
        }
    }

    private static CompletableFuture<String> read(Path file) {
        try {
            return CompletableFuture.completedFuture(Files.readString(file).strip());
        } catch (IOException error) {
            return CompletableFuture.failedFuture(error);
        }
    }

    private static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--json" -> options.put("json", "");
                case "--url", "--user", "--token-file", "--device" -> {
                    String name = arguments[i].substring(2);
                    if (++i == arguments.length) throw usage("--" + name + " needs a value.");
                    options.put(name, arguments[i]);
                }
                default -> throw usage("Unknown: " + arguments[i]);
            }
        }
        return options;
    }

    private static RuntimeException usage(String problem) {
        System.err.println(problem + "\n\n" + USAGE + "\n" + CommandLine.USAGE);
        System.exit(2);
        return new IllegalStateException();
    }
}
