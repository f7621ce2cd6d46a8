package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class HeartbeatTest {
    private final ManualTime time = new ManualTime();
    private final ServerClock clock = new ServerClock(time::micros);
    private final List<String> sent = new ArrayList<>();
    private final List<String> deaths = new ArrayList<>();
    private final Heartbeat heartbeat = new Heartbeat(clock, time, sent::add, () -> deaths.add("dead"));

    private void answer() {
        JsonObject pong = JsonParser.parseString(sent.get(sent.size() - 1)).getAsJsonObject();
        pong.addProperty("receivedTime", "1970-01-01T00:00:01.000Z");
        pong.addProperty("serverTime", "1970-01-01T00:00:01.000Z");
        heartbeat.ponged(pong);
    }

    @Test
    void afterAFewPingsAtOnceOneIsSentInEachInterval() {
        heartbeat.start(25_000);
        for (int i = 0; i < 20; i++) {
            answer();
            time.pass(200);
        }
        assertEquals(Heartbeat.FIRST_PINGS, sent.size());
        time.pass(100_000 - 4_000);
        assertTrue(deaths.size() == 1, "the last one had no answer");
        assertEquals(Heartbeat.FIRST_PINGS + 1, sent.size());
        assertTrue(clock.isSet());
    }

    @Test
    void aPingWithoutAnAnswerMeansThatTheLinkIsDead() {
        heartbeat.start(25_000);
        time.pass(Heartbeat.PATIENCE_MILLIS - 1);
        assertEquals(List.of(), deaths);
        time.pass(1);
        assertEquals(List.of("dead"), deaths);
    }

    @Test
    void theAnswerToAnotherPingDoesNotCount() {
        heartbeat.start(25_000);
        heartbeat.ponged(JsonParser.parseString("{\"timestamp\":-5,\"serverTime\":\"1970-01-01T00:00Z\"}").getAsJsonObject());
        assertFalse(clock.isSet());
        time.pass(Heartbeat.PATIENCE_MILLIS);
        assertEquals(List.of("dead"), deaths);
    }

    @Test
    void aStoppedHeartDoesNothing() {
        heartbeat.start(25_000);
        heartbeat.stop();
        time.pass(1_000_000);
        assertEquals(1, sent.size());
        assertEquals(List.of(), deaths);
    }
}
