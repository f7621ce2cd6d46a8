package bubbletimer.watch;

import bubbletimer.client.ConnectionState;
import bubbletimer.client.RequestException;
import bubbletimer.client.ServerClock;
import bubbletimer.client.Timer;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.PrintStream;
import java.util.List;

/** One JSON object a line. */
final class JsonScreen implements Screen {
    private final PrintStream out;
    private ServerClock clock;

    JsonScreen(PrintStream out) {
        this.out = out;
    }

    @Override
    public void begin(ServerClock itsClock) {
        clock = itsClock;
    }

    @Override
    public void onTimers(List<Timer> timers) {
        JsonArray all = new JsonArray();
        timers.forEach(timer -> all.add(timer.toJson()));
        JsonObject line = line("timers");
        line.add("timers", all);
        print(line);
    }

    @Override
    public void onState(ConnectionState state) {
        JsonObject line = line("state");
        line.addProperty("state", state.name().toString());
        if (!state.message().isEmpty()) line.addProperty("message", state.message());
        print(line);
    }

    @Override
    public void done(String command, JsonObject reply) {
        JsonObject line = line("done");
        line.addProperty("command", command);
        line.add("reply", reply);
        print(line);
    }

    @Override
    public void failed(String command, Throwable error) {
        JsonObject line = line("failed");
        line.addProperty("command", command);
        line.addProperty("message", error.getMessage());
        if (error instanceof RequestException refusal) line.addProperty("code", refusal.code);
        print(line);
    }

    private JsonObject line(String event) {
        JsonObject line = new JsonObject();
        line.addProperty("event", event);
        if (clock.isSet()) {
            line.addProperty("serverMicros", clock.nowMicros());
            line.addProperty("errorMicros", clock.errorMicros());
        }
        return line;
    }

    private synchronized void print(JsonObject line) {
        out.println(line);
        out.flush();
    }
}
