package bubbletimer.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import org.junit.jupiter.api.Test;

class CommandLineTest {
    private static String request(String line) {
        JsonObject json = JsonParser.parseString(CommandLine.parse(line).json()).getAsJsonObject();
        json.remove("messageId");
        return json.toString().replace('"', '\'');
    }

    @Test
    void aLineIsARequest() {
        assertEquals("{'type':'timer','action':'update','timer':{'id':'tea','name':'Green tea','totalDuration':'PT5M'}}",
                request("new tea PT5M Green tea"));
        assertEquals("{'type':'timer','action':'stop','timerId':'tea'}", request("stop tea"));
        assertEquals("{'type':'timer','action':'extend','timerId':'tea','by':'PT1M'}", request("extend  tea PT1M"));
        assertEquals("{'type':'share','action':'remove','timerId':'tea','sharedWithUser':'bob'}", request("unshare tea bob"));
    }

    @Test
    void whatIsNoneSaysWhy() {
        for (String line : new String[] {"start", "dance tea", "extend tea", "share tea"}) {
            String message = assertThrows(IllegalArgumentException.class, () -> CommandLine.parse(line)).getMessage();
            assertTrue(message.contains("extend ID LENGTH"), message);
        }
        assertTrue(assertThrows(IllegalArgumentException.class, () -> CommandLine.parse("extend tea 5"))
                .getMessage().contains("PT5M"));
    }

    @Test
    void aCountdownIsRoundedUp() {
        assertEquals("0:00", TextScreen.clockText(-5));
        assertEquals("0:01", TextScreen.clockText(1));
        assertEquals("5:00", TextScreen.clockText(299_500_000));
        assertEquals("1:00:00", TextScreen.clockText(3_600_000_000L));
    }
}
