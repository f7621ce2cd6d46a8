package bubbletimer.client;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/**
 * The token in use: got when there is none, renewed over the living connection before it expires, and given up when the
 * server refuses what the source gives. Not thread-safe: the client's thread has it.
 */
final class Credentials {
    static final String AUTH_ID = "auth";

    /** A token is renewed this many milliseconds before its end, or in the last fifth of its life when that is short. */
    static final long EARLY_MILLIS = 60_000;

    private static final int REFUSALS = 2;

    /** What became of asking for a token. */
    interface Outcome {
        void token(String token);

        /** The source can't be reached now. */
        void unreachable(String why);

        void signedOut(String why);
    }

    private final TokenSource source;
    private final ServerClock clock;
    private final Later later;
    private final Executor thread;
    private final Consumer<String> send;
    private Runnable renewal = () -> {};
    private String token;
    private String refused;
    private int refusals;
    private int asked;

    Credentials(TokenSource source, ServerClock clock, Later later, Executor thread, Consumer<String> send) {
        this.source = source;
        this.clock = clock;
        this.later = later;
        this.thread = thread;
        this.send = send;
    }

    /** A token for the next connect. Only the outcome of the last call is told. */
    void get(Outcome outcome) {
        if (token != null) {
            outcome.token(token);
        } else if (refusals >= REFUSALS) {
            outcome.signedOut("The server does not accept the tokens");
        } else {
            ask(outcome);
        }
    }

    /** The server did not take it, or not any more. */
    void refused() {
        refusals += 1;
        refused = token;
        token = null;
    }

    /** The person has signed in again. */
    void startAnew() {
        refusals = 0;
        token = refused = null;
    }

    /** The server took the token: a {@code connected}, or the answer to {@code auth}. */
    void accepted(JsonObject message) {
        refusals = 0;
        refused = null;
        renewal.run();
        if (!message.has("tokenExpiresAt")) return;
        long left = (IsoTime.parseInstant(message.get("tokenExpiresAt").getAsString()) - clock.nowMicros()) / 1_000;
        renewal = later.after(Math.max(left - Math.min(EARLY_MILLIS, left / 5), 0), this::renew);
    }

    void disconnected() {
        renewal.run();
        asked += 1; // a renewal that is under way has nowhere to go
    }

    private void renew() {
        refused = token;
        ask(new Outcome() {
            @Override
            public void token(String fresh) {
                JsonObject auth = new JsonObject();
                auth.addProperty("type", "auth");
                auth.addProperty("messageId", AUTH_ID);
                auth.addProperty("token", fresh);
                send.accept(auth.toString());
            }

            // Then the server ends the connection with 4401, and it is tried once more.
            @Override
            public void unreachable(String why) {}

            @Override
            public void signedOut(String why) {}
        });
    }

    private void ask(Outcome outcome) {
        int number = ++asked;
        source.token(refused).whenCompleteAsync((fresh, error) -> {
            if (number != asked) return;
            Throwable cause = error instanceof CompletionException ? error.getCause() : error;
            if (cause instanceof IOException) {
                outcome.unreachable(String.valueOf(cause.getMessage()));
            } else if (cause != null) {
                outcome.signedOut(String.valueOf(cause.getMessage()));
            } else if (fresh.equals(refused)) {
                outcome.signedOut("There is no other token than the one that was refused");
            } else {
                token = fresh;
                outcome.token(fresh);
            }
        }, thread);
    }
}
