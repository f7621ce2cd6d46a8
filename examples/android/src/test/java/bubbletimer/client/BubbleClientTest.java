package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import bubbletimer.client.ConnectionState.Name;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import mockwebserver3.RecordedRequest;
import okhttp3.OkHttpClient;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class BubbleClientTest {
    private static final String TEA =
            "{'id':'tea','userId':'alice','name':'Tea','totalDuration':'PT5M','version':10,'sharedWith':[],'shareVersion':1}";

    private final Network network = new Network();
    private final OkHttpClient http = new OkHttpClient.Builder().socketFactory(network).build();
    private final List<ConnectionState> states = Collections.synchronizedList(new ArrayList<>());
    private final List<String> refusedTokens = Collections.synchronizedList(new ArrayList<>());
    private volatile List<Timer> timers = List.of();
    private volatile double random;
    private FakeServer server;
    private BubbleClient client;

    @BeforeEach
    void start() throws IOException {
        server = new FakeServer();
        client = client(List.of());
    }

    @AfterEach
    void stop() {
        client.close();
        server.close();
        http.dispatcher().executorService().shutdown();
    }

    private BubbleClient client(List<Timer> known) {
        BubbleListener listener = new BubbleListener() {
            @Override
            public void onTimers(List<Timer> all) {
                timers = all;
            }

            @Override
            public void onState(ConnectionState state) {
                states.add(state);
            }
        };
        TokenSource tokens = refused -> {
            refusedTokens.add(String.valueOf(refused));
            return CompletableFuture.completedFuture("token-" + refusedTokens.size());
        };
        return new BubbleClient.Builder(http, server.address(), "pixel", tokens, listener)
                .known(known)
                .random(() -> random)
                .build();
    }

    private FakeServer.Link connected() throws Exception {
        FakeServer.Link link = server.accept();
        client.start();
        return link.greet().say("{'type':'snapshot','timers':[" + TEA + "],'gone':[]}");
    }

    @Test
    void theTokenGoesIntoAHeaderAndTheDeviceIntoTheQuery() throws Exception {
        connected();
        RecordedRequest handshake = server.handshake();
        assertEquals("Bearer token-1", handshake.getHeaders().get("Authorization"));
        assertEquals("deviceId=pixel", handshake.getUrl().encodedQuery());
        assertNull(handshake.getHeaders().get("DeviceId"), "that header asks for the older app's dialect");
    }

    @Test
    void aDeliveryIsShownAndAcknowledged() throws Exception {
        FakeServer.Link link = connected();
        link.say("{'type':'timer','action':'update','timer':" + TEA.replace("10", "11").replace("Tea", "Green tea")
                + ",'changedBy':'bob','messageId':'d1','serverTime':'2026-01-01T00:00:00Z'}");
        assertEquals("{\"type\":\"ack\",\"messageId\":\"d1\"}", link.hear().toString());
        assertEquals("Green tea", timers.get(0).name());
        link.say("{'type':'timer','action':'stop','timerId':'tea','version':12,'stoppedBy':'bob','messageId':'d2'}");
        assertEquals("d2", link.hear().get("messageId").getAsString());
        assertEquals(List.of(), timers);
    }

    @Test
    void whatIsSharedAppearsAndWhatIsTakenAwayDisappears() throws Exception {
        FakeServer.Link link = connected();
        link.say("{'type':'share','action':'add','timerId':'eggs','sharedBy':'bob','timer':" + TEA.replace("tea", "eggs")
                + ",'messageId':'d1'}");
        link.hear();
        assertEquals(2, timers.size());
        link.say("{'type':'share','action':'remove','timerId':'eggs','sharedWithUser':'alice','messageId':'d2'}");
        link.hear();
        assertEquals(List.of("tea"), timers.stream().map(Timer::id).toList());
    }

    @Test
    void afterALostConnectionItResumesWithTheVersionsItHas() throws Exception {
        FakeServer.Link first = connected();
        until(() -> !timers.isEmpty());
        server.handshake();
        FakeServer.Link second = server.accept();
        network.cut();
        second.greet();
        assertEquals("deviceId=pixel&resume=1", server.handshake().getUrl().encodedQuery());
        JsonObject sync = second.hear();
        assertEquals("{\"tea\":10}", sync.get("versions").toString());
        assertEquals("{\"tea\":1}", sync.get("shareVersions").toString());
        String eggs = TEA.replace("tea", "eggs");
        second.say("{'type':'snapshot','timers':[" + eggs + "],'gone':['tea'],'messageId':'sync'}");
        until(() -> timers.size() == 1 && timers.get(0).id().equals("eggs"));
    }

    @Test
    void aRequestWhoseReplyWasLostIsRepeatedWithTheSameIdAndContent() throws Exception {
        FakeServer.Link first = connected();
        CompletableFuture<JsonObject> answer = client.send(Request.command("start", "tea"));
        JsonObject asked = first.hear();
        FakeServer.Link second = server.accept();
        network.cut();
        second.greet();
        assertEquals("sync", second.hear().get("type").getAsString(), "what changed meanwhile is asked for first");
        assertEquals(asked, second.hear());
        second.say("{'status':'processed','timerId':'tea','version':11,'messageId':" + asked.get("messageId") + ",'timer':"
                + TEA.replace("'version':10", "'version':11,'endTime':'2026-01-01T00:00:00Z'") + "}");
        answer.get(FakeServer.WITHIN_SECONDS, TimeUnit.SECONDS);
        until(() -> timers.get(0).isRunning());
    }

    @Test
    void keptTimersAreShownAtOnceAndOnlyWhatIsDifferentIsAskedFor() throws Exception {
        client = client(List.of(new Timer("tea", "alice", "Tea", "PT5M", null, null, 10, List.of(), 1)));
        FakeServer.Link link = server.accept();
        client.start();
        link.greet();
        assertEquals("sync", link.hear().get("type").getAsString());
        assertEquals(1, timers.size());
    }

    @Test
    void withMoreTimersThanASyncHoldsItAsksForEverythingAndForgetsTheRest() throws Exception {
        List<Timer> many = new ArrayList<>();
        for (int i = 0; i < 2_001; i++) many.add(new Timer("t" + i, "alice", "", null, null, null, 1, List.of(), 0));
        client = client(many);
        FakeServer.Link link = server.accept();
        client.start();
        link.greet();
        assertEquals("deviceId=pixel", server.handshake().getUrl().encodedQuery());
        link.say("{'type':'snapshot','timers':[" + TEA + "],'gone':[]}");
        until(() -> timers.size() == 1);
        assertTrue(link.heardNothing());
    }

    @Test
    void whatWasChangedBeforeTheFirstSnapshotIsNotGoneForBeingOlderInIt() throws Exception {
        List<Timer> many = new ArrayList<>();
        for (int i = 0; i < 2_001; i++) many.add(new Timer("t" + i, "alice", "", null, null, null, 1, List.of(), 0));
        client = client(many);
        FakeServer.Link link = server.accept();
        client.start();
        link.greet();
        CompletableFuture<JsonObject> answer = client.send(Request.update("t7", "mine", null, null, null));
        link.say("{'status':'processed','timerId':'t7','version':5,'messageId':" + link.hear().get("messageId") + "}");
        answer.get(FakeServer.WITHIN_SECONDS, TimeUnit.SECONDS);
        link.say("{'type':'snapshot','timers':[" + TEA + "],'gone':[]}"); // t7 was read before that command
        until(() -> timers.size() == 2);
        assertEquals("mine", timers.get(0).name());
    }

    @Test
    void aRefusedSyncIsTriedAgainOverANewConnection() throws Exception {
        FakeServer.Link first = connected();
        until(() -> !timers.isEmpty());
        FakeServer.Link second = server.accept();
        FakeServer.Link third = server.accept();
        network.cut();
        second.greet();
        second.hear();
        second.say("{'status':'error','code':503,'error':'busy','retryAfter':1,'messageId':'sync'}");
        third.greet();
        assertEquals("sync", third.hear().get("type").getAsString());
    }

    @Test
    void aTokenIsRenewedBeforeItExpires() throws Exception {
        FakeServer.Link link = server.accept();
        client.start();
        link.greet("'tokenExpiresAt':'" + Instant.now().plusMillis(600) + "',");
        JsonObject auth = link.hear();
        assertEquals("auth", auth.get("type").getAsString());
        assertEquals("token-2", auth.get("token").getAsString());
        assertEquals(List.of("null", "token-1"), refusedTokens);
        link.say("{'status':'processed','messageId':'auth','tokenExpiresAt':'" + Instant.now().plusMillis(600) + "'}");
        assertEquals("token-3", link.hear().get("token").getAsString());
    }

    @Test
    void anExpiredTokenIsReplacedAndTheConnectionComesBack() throws Exception {
        FakeServer.Link first = connected();
        FakeServer.Link second = server.accept();
        first.close(4401);
        second.greet();
        server.handshake();
        assertEquals("Bearer token-2", server.handshake().getHeaders().get("Authorization"));
    }

    @Test
    void whoseTokensAreRefusedTwiceIsSignedOutAndComesBackOnlyWhenAsked() throws Exception {
        server.refuse(401);
        server.refuse(401);
        client.start();
        until(() -> last().name() == Name.SIGNED_OUT);
        assertEquals(List.of("null", "token-1"), refusedTokens);
        assertEquals(2, server.handshakes());
        connected();
        until(() -> last().name() == Name.CONNECTED);
    }

    @Test
    void closeCodesThatAskForAPauseGetIt() throws Exception {
        random = 0.5;
        FakeServer.Link link = connected();
        link.close(4409);
        until(() -> last().name() == Name.WAITING);
        assertEquals(30_000 + 500, last().retryInMillis());
        client.wake();
        until(client.send(Request.update("x", "x".repeat(20_000), null, null, null))::isDone); // so it was woken by now
        assertEquals(Name.WAITING, last().name());
        assertEquals(1, server.handshakes(), "waking does not cut a pause short that the server asked for");
    }

    @Test
    void whoeverIsWokenDoesNotWaitForTheBackOff() throws Exception {
        FakeServer.Link first = connected();
        until(() -> last().name() == Name.CONNECTED);
        random = 0.999;
        server.refuse(500);
        first.close(1012);
        until(() -> last().name() == Name.WAITING);
        FakeServer.Link second = server.accept();
        client.wake(); // refused with 500
        until(() -> server.handshakes() == 2 && last().name() == Name.WAITING);
        client.wake();
        second.greet();
        until(() -> last().name() == Name.CONNECTED);
    }

    @Test
    void retryAfterOfARefusedHandshakeIsWaitedFor() throws Exception {
        server.refuse(503, "Retry-After", "7");
        client.start();
        until(() -> last().name() == Name.WAITING);
        assertEquals(7_000, last().retryInMillis());
    }

    @Test
    void whoIsRefusedForGoodSaysSo() throws Exception {
        server.refuse(400);
        client.start();
        until(() -> last().name() == Name.REFUSED);
        assertEquals(1, server.handshakes());
    }

    @Test
    void aMessageThatCantBeUnderstoodEndsTheConnection() throws Exception {
        FakeServer.Link first = connected();
        FakeServer.Link second = server.accept();
        first.say("nonsense");
        second.greet();
        until(() -> last().name() == Name.CONNECTED);
    }

    @Test
    void whatItDoesNotKnowIsPassedOver() throws Exception {
        FakeServer.Link link = connected();
        link.say("{'type':'weather','action':'rain'}").say("{'type':'reconnect','afterMs':1000}");
        link.say("{'type':'timer','action':'stop','timerId':'tea','version':12,'messageId':'d1'}");
        assertEquals("d1", link.hear().get("messageId").getAsString());
        assertFalse(states.stream().anyMatch(state -> state.name() == Name.WAITING));
    }

    @Test
    void aRefusedUpdateLeavesTheStateThatTheServerHas() throws Exception {
        FakeServer.Link link = connected();
        CompletableFuture<JsonObject> answer = client.send(Request.command("pause", "tea"));
        JsonObject asked = link.hear();
        link.say("{'status':'error','code':409,'error':'was stopped','timerId':'tea','messageId':" + asked.get("messageId")
                + ",'timer':" + TEA.replace("'version':10", "'version':12,'stoppedBy':'bob'") + "}");
        until(answer::isCompletedExceptionally);
        until(() -> timers.isEmpty());
    }

    @Test
    void aClosedClientTakesNoRequests() {
        client.close();
        CompletableFuture<JsonObject> answer = client.send(Request.command("start", "tea"));
        until(answer::isCompletedExceptionally);
    }

    private ConnectionState last() {
        synchronized (states) {
            return states.isEmpty() ? ConnectionState.of(Name.CLOSED) : states.get(states.size() - 1);
        }
    }

    private static void until(BooleanSupplier condition) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(FakeServer.WITHIN_SECONDS);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) throw new AssertionError(new TimeoutException("it did not come to pass"));
            try {
                Thread.sleep(5);
            } catch (InterruptedException error) {
                throw new AssertionError(error);
            }
        }
    }
}
