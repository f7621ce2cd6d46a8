package bubbletimer.client;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.function.LongSupplier;

/**
 * The server's clock, as seen from here, by NTP's four timestamps (RFC 5905, section 8): t1 when we asked, t2 when the
 * server had it, t3 when the server answered, t4 when we had the answer. All in microseconds.
 *
 * <p>The local clock is one that nobody can set: on Android {@code SystemClock.elapsedRealtimeNanos() / 1_000}, which goes on
 * in deep sleep. A person who corrects the phone's clock then changes no bubble.
 */
public final class ServerClock {
    /** How far two good quartz clocks part: 100 millionths of the time that went by since the exchange. */
    static final double DRIFT = 100e-6;

    /** Times are written to the microsecond. */
    static final long RESOLUTION_MICROS = 1;

    private static final int KEPT = 8;

    private record Sample(long offset, long roundTrip, long at) {}

    private final LongSupplier localMicros;
    private final Deque<Sample> samples = new ArrayDeque<>();

    public ServerClock(LongSupplier localMicros) {
        this.localMicros = localMicros;
    }

    /** One exchange. Without the server's time of receipt, t2 is t3. */
    public synchronized void exchanged(long t1, long t2, long t3, long t4) {
        long roundTrip = Math.max((t4 - t1) - (t3 - t2), 0);
        samples.addLast(new Sample(((t2 - t1) + (t3 - t4)) / 2, roundTrip, t4));
        if (samples.size() > KEPT) samples.removeFirst();
    }

    /** Whether there has been an exchange. */
    public synchronized boolean isSet() {
        return !samples.isEmpty();
    }

    /** Microseconds since 1970 by the server. Call it when {@link #isSet}. */
    public synchronized long nowMicros() {
        return localMicros.getAsLong() + best().offset;
    }

    /** By how much {@link #nowMicros} may be wrong at most, either way: half of the round trip, and the drift since. */
    public synchronized long errorMicros() {
        return errorOf(best());
    }

    /** The local clock, for t1 and t4. */
    public long localMicros() {
        return localMicros.getAsLong();
    }

    private Sample best() {
        Sample best = samples.peekLast();
        if (best == null) throw new IllegalStateException("There has been no exchange yet");
        for (Sample each : samples) {
            if (errorOf(each) < errorOf(best)) best = each;
        }
        return best;
    }

    private long errorOf(Sample sample) {
        long age = Math.max(localMicros.getAsLong() - sample.at, 0);
        return sample.roundTrip / 2 + RESOLUTION_MICROS + (long) (age * DRIFT);
    }
}
