package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

class CloseCodeTest {
    private static final Pattern ROW = Pattern.compile("^\\| (\\d{4}) \\|.*\\| ([^|]+) \\|$", Pattern.MULTILINE);

    /** The table of docs/protocol.md: what is said of coming back, by code. */
    private static Map<Integer, String> documented() throws IOException {
        String page = Files.readString(Path.of("../../docs/protocol.md"));
        Map<Integer, String> rows = new TreeMap<>();
        Matcher row = ROW.matcher(page.substring(page.indexOf("<!-- close codes")));
        while (row.find()) rows.put(Integer.parseInt(row.group(1)), row.group(2));
        return rows;
    }

    @Test
    void everyCodeOfTheProtocolIsKnown() throws IOException {
        Map<Integer, String> documented = documented();
        for (CloseCode each : CloseCode.values()) {
            if (each != CloseCode.CUT) assertTrue(documented.containsKey(each.code), each.toString());
        }
        assertEquals(CloseCode.values().length - 1, documented.size());
        for (int code : documented.keySet()) assertEquals(code, CloseCode.of(code).code);
    }

    @Test
    void thePausesAreThoseOfTheProtocol() throws IOException {
        documented().forEach((code, comingBack) -> {
            long pause = comingBack.contains("half a minute") ? 30_000 : comingBack.contains("a minute") ? 60_000 : 0;
            assertEquals(pause, CloseCode.of(code).pauseMillis, code + ": " + comingBack);
        });
    }

    @Test
    void anUnknownCodeIsABrokenConnection() {
        assertEquals(CloseCode.CUT, CloseCode.of(4999));
    }
}
