package bubbletimer.client;

import com.google.gson.JsonObject;
import java.util.function.Consumer;

/**
 * Pings, which give the server's time and find out whether the link is alive. Not thread-safe: the client's thread has it.
 *
 * <p>The wait is for an answer, not for silence: a phone sleeps, and silence that it slept through says nothing.
 */
final class Heartbeat {
    /** Milliseconds an answer may take. */
    static final long PATIENCE_MILLIS = 10_000;

    /** The first pings follow each other closely: of several exchanges, one is likely to have met no queue. */
    static final int FIRST_PINGS = 4;

    private final ServerClock clock;
    private final Later later;
    private final Consumer<String> send;
    private final Runnable onDead;
    private Runnable next = () -> {};
    private Runnable deadline = () -> {};
    private long intervalMillis;
    private long pingedAt = -1;
    private int soon;

    Heartbeat(ServerClock clock, Later later, Consumer<String> send, Runnable onDead) {
        this.clock = clock;
        this.later = later;
        this.send = send;
        this.onDead = onDead;
    }

    void start(long everyMillis) {
        intervalMillis = everyMillis;
        soon = FIRST_PINGS;
        ping();
    }

    /** Asks now, unless an answer is due already. */
    void ping() {
        if (pingedAt >= 0) return;
        next.run();
        pingedAt = clock.localMicros();
        deadline = later.after(PATIENCE_MILLIS, onDead);
        JsonObject ping = new JsonObject();
        ping.addProperty("type", "ping");
        ping.addProperty("timestamp", pingedAt);
        send.accept(ping.toString());
    }

    void ponged(JsonObject pong) {
        long now = clock.localMicros();
        if (pingedAt < 0 || !pong.has("timestamp") || pong.get("timestamp").getAsLong() != pingedAt) return;
        long answeredAt = IsoTime.parseInstant(pong.get("serverTime").getAsString());
        long receivedAt =
                pong.has("receivedTime") ? IsoTime.parseInstant(pong.get("receivedTime").getAsString()) : answeredAt;
        clock.exchanged(pingedAt, receivedAt, answeredAt, now);
        pingedAt = -1;
        deadline.run();
        soon = Math.max(soon - 1, 0);
        next = later.after(soon > 0 ? 200 : intervalMillis, this::ping);
    }

    void stop() {
        next.run();
        deadline.run();
        pingedAt = -1;
    }
}
