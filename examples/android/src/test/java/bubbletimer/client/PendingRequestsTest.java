package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class PendingRequestsTest {
    private final ManualTime time = new ManualTime();
    private final List<String> sent = new ArrayList<>();
    private final PendingRequests pending = new PendingRequests(sent::add, time, 60_000);

    @BeforeEach
    void connect() {
        pending.connected(16_384);
    }

    @Test
    void anUnansweredRequestIsSentAgainAsItWasAfterEachReconnect() throws Exception {
        Request request = Request.command("start", "tea");
        CompletableFuture<JsonObject> answer = pending.add(request);
        pending.disconnected();
        pending.connected(16_384);
        pending.connected(16_384);
        assertEquals(List.of(request.json(), request.json(), request.json()), sent);
        pending.settle(processed(request));
        pending.settle(processed(request)); // the answers to the others
        assertEquals("processed", answer.get().get("status").getAsString());
        pending.connected(16_384);
        assertEquals(3, sent.size());
    }

    @Test
    void whatIsAskedWithoutAConnectionIsSentWhenThereIsOneInTheOrderInWhichItWasAsked() {
        pending.disconnected();
        Request first = Request.command("start", "a");
        Request second = Request.command("start", "b");
        pending.add(first);
        pending.add(second);
        assertEquals(List.of(), sent);
        pending.connected(16_384);
        assertEquals(List.of(first.json(), second.json()), sent);
    }

    @Test
    void aRefusalWithRetryAfterIsRepeatedEachTimeAfterTwiceAsLong() {
        Request request = Request.command("start", "tea");
        pending.add(request);
        for (long pause : new long[] {1_000, 2_000, 4_000}) {
            int before = sent.size();
            pending.settle(error(request, 503, 1));
            time.pass(pause - 1);
            assertEquals(before, sent.size());
            time.pass(1);
            assertEquals(before + 1, sent.size());
        }
    }

    @Test
    void repeatsEnd() {
        Request request = Request.command("start", "tea");
        CompletableFuture<JsonObject> answer = pending.add(request);
        for (int i = 0; i <= PendingRequests.REPEATS; i++) {
            pending.settle(error(request, 429, 0.1));
            time.pass(8_000);
        }
        assertEquals(429, refusal(answer).code);
        assertEquals(1 + PendingRequests.REPEATS, sent.size());
    }

    @Test
    void ofOneTimersRequestsTheNextWaitsUntilTheFirstIsAnswered() {
        Request start = Request.command("start", "tea");
        Request stop = Request.command("stop", "tea");
        Request other = Request.command("start", "eggs");
        pending.add(start);
        pending.add(stop);
        pending.add(other);
        assertEquals(List.of(start.json(), other.json()), sent);
        pending.settle(error(start, 503, 1));
        time.pass(1_000);
        pending.settle(processed(start));
        assertEquals(List.of(start.json(), other.json(), start.json(), stop.json()), sent);
    }

    @Test
    void otherRefusalsAreFinal() {
        Request request = Request.command("start", "tea");
        CompletableFuture<JsonObject> answer = pending.add(request);
        pending.settle(error(request, 403, 0));
        assertEquals(403, refusal(answer).code);
        assertEquals("t1", refusal(answer).traceId);
    }

    @Test
    void whatIsNotAnsweredInAMinuteIsGivenUp() {
        pending.disconnected();
        CompletableFuture<JsonObject> answer = pending.add(Request.command("pause", "tea"));
        time.pass(59_999);
        assertFalse(answer.isDone());
        time.pass(1);
        assertEquals(0, refusal(answer).code);
        pending.connected(16_384);
        assertEquals(List.of(), sent);
    }

    @Test
    void noMoreWaitThanFitIntoTheServersBurst() {
        pending.disconnected();
        for (int i = 0; i < PendingRequests.MOST; i++) assertFalse(pending.add(Request.command("start", "t" + i)).isDone());
        assertEquals(429, refusal(pending.add(Request.command("start", "tea"))).code);
    }

    @Test
    void aRequestThatIsTooLongIsNotSent() {
        CompletableFuture<JsonObject> answer = pending.add(Request.update("tea", "x".repeat(16_384), null, null, null));
        assertEquals(413, refusal(answer).code);
        assertTrue(sent.isEmpty());
    }

    @Test
    void theSameRequestTwiceIsOne() {
        Request request = Request.command("start", "tea");
        assertTrue(pending.add(request) == pending.add(Request.parse(request.json())));
        assertEquals(1, sent.size());
    }

    private static JsonObject processed(Request request) {
        return json("{'status':'processed','messageId':'" + request.messageId() + "','version':1}");
    }

    private static JsonObject error(Request request, int code, double retryAfter) {
        String wait = retryAfter > 0 ? ",'retryAfter':" + retryAfter : "";
        return json("{'status':'error','error':'no','code':" + code + wait + ",'traceId':'t1','messageId':'"
                + request.messageId() + "'}");
    }

    private static RequestException refusal(CompletableFuture<JsonObject> answer) {
        assertTrue(answer.isDone());
        return (RequestException) assertThrows(ExecutionException.class, answer::get).getCause();
    }

    private static JsonObject json(String text) {
        return JsonParser.parseString(text.replace('\'', '"')).getAsJsonObject();
    }
}
