package bubbletimer.watch;

import bubbletimer.client.Request;
import java.time.Duration;

/** A line that somebody typed, as a request. */
final class CommandLine {
    static final String USAGE = """
            Then, one a line:
            new ID LENGTH [NAME]                    such as: new tea PT5M Green tea
            start ID, pause ID, resume ID, stop ID
            extend ID LENGTH
            share ID USER, unshare ID USER
            quit
            """;

    private CommandLine() {}

    /** Throws IllegalArgumentException with a text for the person. */
    static Request parse(String line) {
        String[] words = line.split("\\s+", 4);
        String id = word(words, 1);
        return switch (words[0]) {
            case "new" -> Request.update(id, words.length > 3 ? words[3] : id, length(words).toString(), null, null);
            case "start", "pause", "resume", "stop" -> Request.command(words[0], id);
            case "extend" -> Request.extend(id, length(words));
            case "share" -> Request.share(id, word(words, 2));
            case "unshare" -> Request.unshare(id, word(words, 2));
            default -> throw new IllegalArgumentException("Unknown: " + words[0] + "\n" + USAGE);
        };
    }

    private static Duration length(String[] words) {
        try {
            return Duration.parse(word(words, 2));
        } catch (java.time.format.DateTimeParseException error) {
            throw new IllegalArgumentException("A length is written like PT5M or PT1H30M", error);
        }
    }

    private static String word(String[] words, int place) {
        if (words.length <= place) throw new IllegalArgumentException("Something is missing\n" + USAGE);
        return words[place];
    }
}
