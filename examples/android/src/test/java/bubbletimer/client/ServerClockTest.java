package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;

class ServerClockTest {
    private static final long OFFSET = 1_700_000_000_000_000L;

    private final ManualTime time = new ManualTime();
    private final ServerClock clock = new ServerClock(time::micros);

    @Test
    void fourTimestampsLeaveTheServersOwnWorkOut() {
        // 30 ms there, 200 ms at the server, 30 ms back.
        clock.exchanged(0, OFFSET + 30_000, OFFSET + 230_000, 260_000);
        assertEquals(OFFSET, clock.nowMicros());
        assertEquals(30_000 + ServerClock.RESOLUTION_MICROS, clock.errorMicros());
    }

    @Test
    void theErrorBoundHoldsHoweverUnevenTheWaysAre() {
        Random random = new Random(7);
        for (int i = 0; i < 1_000; i++) {
            ServerClock each = new ServerClock(time::micros);
            long there = random.nextInt(500_000);
            long work = random.nextInt(50_000);
            long back = random.nextInt(500_000);
            each.exchanged(0, OFFSET + there, OFFSET + there + work, there + work + back);
            assertTrue(Math.abs(each.nowMicros() - OFFSET) <= each.errorMicros());
        }
    }

    @Test
    void theShortestRoundTripCounts() {
        clock.exchanged(0, OFFSET + 400_000, OFFSET + 400_000, 400_000); // all of it on the way there
        clock.exchanged(0, OFFSET + 5_000, OFFSET + 5_000, 10_000);
        clock.exchanged(0, OFFSET + 1_000, OFFSET + 1_000, 600_000); // all of it on the way back
        assertEquals(OFFSET, clock.nowMicros());
    }

    @Test
    void anOldExchangeIsTrustedLessThanAFreshOne() {
        clock.exchanged(0, OFFSET, OFFSET, 0);
        assertEquals(1, clock.errorMicros());
        time.pass(3_600_000);
        assertEquals(1 + 360_000, clock.errorMicros(), "an hour at 100 ppm");
        long now = time.micros();
        clock.exchanged(now - 50_000, OFFSET + now, OFFSET + now, now + 50_000);
        assertTrue(clock.errorMicros() < 60_000);
    }

    @Test
    void withoutAnExchangeThereIsNoTime() {
        assertFalse(clock.isSet());
        assertThrows(IllegalStateException.class, clock::nowMicros);
    }
}
