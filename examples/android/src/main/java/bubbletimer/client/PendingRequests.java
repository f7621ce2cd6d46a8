package bubbletimer.client;

import com.google.gson.JsonObject;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * Requests that wait for their answers. Not thread-safe: the client's thread has it.
 *
 * <p>Each is sent again, as it was, until it is answered: after a reconnect, and when the server asks for it with
 * {@code retryAfter}, then each time after twice as long, so that repeats do not keep an overloaded server overloaded.
 * Of one timer's requests only the first is under way, so that one that must wait is not overtaken by the next.
 */
final class PendingRequests {
    /** More would be a program gone wild; and a reconnect sends them all, which must fit into the server's burst. */
    static final int MOST = 32;

    static final int REPEATS = 5;

    private static final class Entry {
        final Request request;
        final CompletableFuture<JsonObject> answer = new CompletableFuture<>();
        Runnable giveUp = () -> {};
        int repeats;
        boolean sent;
        boolean waits;

        Entry(Request request) {
            this.request = request;
        }
    }

    private final Map<String, Entry> entries = new LinkedHashMap<>();
    private final Consumer<String> send;
    private final Later later;
    private final long giveUpMillis;
    private boolean connected;
    private long messageBytes = Long.MAX_VALUE;

    /**
     * @param send sends a text over the living connection
     * @param giveUpMillis how long a request may be without an answer; a pause that arrives minutes late does harm
     */
    PendingRequests(Consumer<String> send, Later later, long giveUpMillis) {
        this.send = send;
        this.later = later;
        this.giveUpMillis = giveUpMillis;
    }

    /** The reply, or a RequestException. The same request twice is one. */
    CompletableFuture<JsonObject> add(Request request) {
        Entry known = entries.get(request.messageId());
        if (known != null) return known.answer;
        Entry entry = new Entry(request);
        int bytes = request.json().getBytes(StandardCharsets.UTF_8).length;
        if (bytes > messageBytes) {
            entry.answer.completeExceptionally(new RequestException(413, "The request is too long"));
        } else if (entries.size() >= MOST) {
            entry.answer.completeExceptionally(new RequestException(429, "Too many requests wait for an answer"));
        } else {
            entries.put(request.messageId(), entry);
            entry.giveUp = later.after(giveUpMillis, () -> fail(entry, RequestException.unanswered("The server did not answer")));
            pump();
        }
        return entry.answer;
    }

    /** There is a connection that takes requests: everything unanswered is sent again. */
    void connected(long longestMessage) {
        connected = true;
        messageBytes = longestMessage;
        for (Entry entry : entries.values()) entry.sent = false;
        pump();
    }

    /** The connection is gone, and with it the answers that were under way. */
    void disconnected() {
        connected = false;
    }

    /** Takes a reply: a message with a {@code status}. */
    void settle(JsonObject reply) {
        Entry entry = reply.has("messageId") ? entries.get(reply.get("messageId").getAsString()) : null;
        if (entry == null) return;
        if (reply.get("status").getAsString().equals("processed")) {
            remove(entry);
            entry.answer.complete(reply);
        } else if (reply.has("retryAfter") && entry.repeats < REPEATS) {
            entry.waits = true;
            long pause = (long) (reply.get("retryAfter").getAsDouble() * 1_000) << entry.repeats;
            entry.repeats += 1;
            later.after(pause, () -> {
                entry.waits = entry.sent = false;
                pump();
            });
        } else {
            fail(entry, new RequestException(reply));
        }
        pump();
    }

    /** Nothing more will be sent. */
    void failAll(String why) {
        for (Entry entry : new ArrayList<>(entries.values())) fail(entry, RequestException.unanswered(why));
    }

    private void pump() {
        Set<String> busy = new HashSet<>();
        for (Entry entry : new ArrayList<>(entries.values())) {
            boolean isFirst = busy.add(entry.request.timerId());
            if (connected && isFirst && !entry.sent && !entry.waits) {
                entry.sent = true;
                send.accept(entry.request.json());
            }
        }
    }

    private void fail(Entry entry, RequestException why) {
        if (!remove(entry)) return;
        entry.answer.completeExceptionally(why);
        pump();
    }

    private boolean remove(Entry entry) {
        entry.giveUp.run();
        return entries.remove(entry.request.messageId()) != null;
    }
}
