package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.List;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class TimerStoreTest {
    private final TimerStore store = new TimerStore(List.of());

    private static Timer tea(String name, long version, List<String> members, long shareVersion) {
        return new Timer("tea", "alice", name, "PT5M", null, null, version, members, shareVersion);
    }

    @Test
    void stateAndAudienceAreOrderedEachByItsOwnVersion() {
        store.merge(tea("old", 1, List.of("bob"), 9));
        store.merge(tea("new", 2, List.of(), 5));
        assertEquals(tea("new", 2, List.of("bob"), 9), store.get("tea"));
        store.merge(tea("older", 1, List.of("carol"), 10));
        assertEquals(tea("new", 2, List.of("carol"), 10), store.get("tea"));
    }

    @Test
    void aStateOfTheSameVersionIsTaken() {
        store.merge(tea("guessed", 2, List.of(), 1));
        store.merge(tea("from the server", 2, List.of(), 1));
        assertEquals("from the server", store.get("tea").name());
    }

    @Test
    void anUpdateThatAStopOvertookDoesNotBringTheTimerBack() {
        store.merge(tea("tea", 1, List.of(), 1));
        store.stop("tea", 5);
        store.merge(tea("late", 4, List.of(), 1));
        assertNull(store.get("tea"));
        store.merge(tea("created anew", 6, List.of(), 1));
        assertEquals("created anew", store.get("tea").name());
        store.stop("tea", 5);
        assertEquals("created anew", store.get("tea").name(), "a stop that comes late");
    }

    @Test
    void aTimerThatWasTakenAwayComesBackInTheVersionItHad() {
        store.merge(tea("tea", 3, List.of("bob"), 1));
        store.forget("tea");
        store.merge(tea("tea", 3, List.of("bob"), 3));
        assertEquals(3, store.get("tea").version());
    }

    @Test
    void whatASnapshotLeavesOutIsNotGone() {
        store.merge(tea("tea", 3, List.of(), 1));
        store.mergeSnapshot(List.of(), List.of());
        assertEquals(1, store.all().size());
        store.mergeSnapshot(List.of(), List.of("tea"));
        assertTrue(store.isEmpty());
    }

    @Test
    void anUpdateOfOurOwnKeepsWhatItDoesNotSay() {
        store.merge(new Timer("tea", "alice", "Tea", "PT5M", "PT3M", null, 1, List.of("bob"), 1));
        store.updated("tea", "bob", json("{'id':'tea','name':'Green'}"), 2, false);
        assertEquals(new Timer("tea", "alice", "Green", "PT5M", "PT3M", null, 2, List.of("bob"), 1), store.get("tea"));
        store.updated("tea", "bob", json("{'id':'tea','endTime':'2026-01-01T00:00Z'}"), 3, false);
        assertNull(store.get("tea").remainingDuration());
        assertTrue(store.get("tea").isRunning());
    }

    @Test
    void theServersStateCountsMoreThanTheReplyToAnOlderUpdate() {
        store.merge(tea("by bob, later", 7, List.of(), 1));
        store.updated("tea", "alice", json("{'id':'tea','name':'by me'}"), 6, false);
        assertEquals("by bob, later", store.get("tea").name());
    }

    @Test
    void aTimerThatWasTakenAwayWhileItsUpdateWasUnderWayStaysAway() {
        store.updated("tea", "bob", json("{'id':'tea','name':'mine?'}"), 6, false);
        assertTrue(store.isEmpty());
        store.updated("new", "bob", json("{'id':'new','name':'mine'}"), 6, true);
        assertEquals("bob", store.get("new").userId());
    }

    @Test
    void syncAsksWithBothVersionsOfEachTimer() {
        store.merge(tea("tea", 3, List.of(), 4));
        assertEquals(json("{'versions':{'tea':3},'shareVersions':{'tea':4}}"), store.versions());
    }

    @Test
    void stopsAreForgottenWhenThereAreTooMany() {
        for (int i = 0; i <= TimerStore.STOPS_KEPT; i++) store.stop("t" + i, 10);
        store.merge(new Timer("t0", "alice", "", null, null, null, 1, List.of(), 0));
        store.merge(new Timer("t1", "alice", "", null, null, null, 1, List.of(), 0));
        assertEquals(List.of("t0"), store.all().stream().map(Timer::id).toList());
    }

    @Test
    void whatIsLeftFollowsFromTheRunState() {
        long now = IsoTime.parseInstant("2026-01-01T00:00:00Z");
        assertEquals(OptionalLong.of(60_000_000),
                new Timer("t", "a", "", "PT5M", null, "2026-01-01T00:01", 1, List.of(), 0).remainingMicros(now));
        assertEquals(OptionalLong.of(1_000_000),
                new Timer("t", "a", "", "PT5M", "PT1S", null, 1, List.of(), 0).remainingMicros(now));
        assertEquals(OptionalLong.of(300_000_000),
                new Timer("t", "a", "", "PT5M", null, null, 1, List.of(), 0).remainingMicros(now));
        assertEquals(OptionalLong.empty(),
                new Timer("t", "a", "", null, null, null, 1, List.of(), 0).remainingMicros(now));
    }

    @Test
    void aTimerSurvivesBeingKeptAsText() {
        Timer timer = new Timer("t", "a", "n", "PT5M", null, "2026-01-01T00:01", 7, List.of("b"), 8);
        assertEquals(timer, Timer.from(json(timer.toJson().toString())));
    }

    private static JsonObject json(String text) {
        return JsonParser.parseString(text.replace('\'', '"')).getAsJsonObject();
    }
}
