package bubbletimer.client;

import java.util.function.DoubleSupplier;

/**
 * How long to wait before the next connect: full jitter. A crowd that lost its server together must not come back together
 * (Brooker, "Exponential Backoff and Jitter").
 */
public final class Backoff {
    static final long BASE_MILLIS = 500;
    static final long LIMIT_MILLIS = 30_000;

    private final DoubleSupplier random;
    private int failures;

    /** random: numbers from 0 (included) to 1. */
    public Backoff(DoubleSupplier random) {
        this.random = random;
    }

    /** Another attempt has failed, or a connection has ended: milliseconds until the next one. */
    public long next() {
        failures += 1;
        long bound = Math.min(LIMIT_MILLIS, BASE_MILLIS << Math.min(failures, 16));
        return (long) (random.getAsDouble() * bound);
    }

    /** The same after a pause that the server asked for, which is never cut short, and jittered, too. */
    public long next(long pauseMillis) {
        return pauseMillis + next();
    }

    /** A connection was a good one: the next failure is the first again. */
    public void reset() {
        failures = 0;
    }
}
