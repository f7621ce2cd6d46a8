package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class BackoffTest {
    @Test
    void theBoundDoublesFromOneSecondToHalfAMinute() {
        Backoff backoff = new Backoff(() -> 1.0);
        long[] bounds = {1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000};
        for (long bound : bounds) assertEquals(bound, backoff.next());
        for (int i = 0; i < 100; i++) assertEquals(30_000, backoff.next());
        backoff.reset();
        assertEquals(1_000, backoff.next());
    }

    @Test
    void anyMomentUpToTheBoundIsPossible() {
        assertEquals(0, new Backoff(() -> 0.0).next());
        assertEquals(250, new Backoff(() -> 0.25).next());
    }

    @Test
    void aPauseThatTheServerAskedForIsNeverCutShort() {
        Backoff backoff = new Backoff(Math::random);
        for (int i = 0; i < 100; i++) assertTrue(backoff.next(30_000) >= 30_000);
    }
}
