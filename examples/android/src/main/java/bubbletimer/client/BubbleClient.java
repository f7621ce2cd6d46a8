package bubbletimer.client;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.DoubleSupplier;
import java.util.function.LongSupplier;
import okhttp3.HttpUrl;
import okhttp3.OkHttpClient;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

/**
 * The timers of one user on one device, kept up to date over one WebSocket that comes back by itself.
 *
 * <p>Everything happens on one thread of its own; the public methods may be called from any.
 */
public final class BubbleClient implements AutoCloseable {
    /** A connection that lasted this long was a good one. */
    private static final long STABLE_MICROS = 10_000_000;

    private static final long GREETING_MILLIS = 10_000;
    private static final int MOST_SYNCED = 2_000;
    private static final String SYNC_ID = "sync";

    private final OkHttpClient http;
    private final HttpUrl address;
    private final String deviceId;
    private final BubbleListener listener;
    private final ScheduledThreadPoolExecutor thread = ownThread();
    private final ServerClock clock;
    private final Backoff backoff;
    private final Credentials credentials;
    private final Heartbeat heartbeat;
    private final PendingRequests pending;
    private final TimerStore store;

    private volatile boolean closed;
    private ConnectionState state = ConnectionState.of(ConnectionState.Name.CLOSED);
    private List<Timer> shown = List.of();
    private WebSocket socket;
    private boolean resumes;
    private boolean hasSnapshot;
    private final Set<String> doubtful = new HashSet<>();
    private Runnable retry = () -> {};
    private Runnable greeting = () -> {};
    private long openedAt;
    private long connectedAt = -1;
    private long pausedUntil;
    private long messageBytes = 16_384;
    private String userId = "";

    private BubbleClient(Builder builder) {
        // A silent socket is no fault (reading has no time-out), a silent handshake is one: `greeting`.
        http = builder.http.newBuilder().readTimeout(Duration.ZERO).pingInterval(Duration.ZERO).build();
        address = HttpUrl.get(builder.address.replaceFirst("^ws", "http"));
        deviceId = builder.deviceId;
        listener = builder.listener;
        clock = new ServerClock(builder.localMicros);
        backoff = new Backoff(builder.random);
        credentials = new Credentials(builder.tokens, clock, this::later, thread, this::transmit);
        heartbeat = new Heartbeat(clock, this::later, this::transmit, () -> lose("no answer to a ping"));
        pending = new PendingRequests(this::transmit, this::later, builder.giveUpAfter.toMillis());
        store = new TimerStore(builder.known);
        hasSnapshot = !store.isEmpty();
    }

    // --- what an app calls -------------------------------------------------------------------------------------------

    /** Connects, and stays connected until {@link #close}. Also after SIGNED_OUT, when the person has signed in again. */
    public void start() {
        thread.execute(() -> {
            if (socket != null || state.name() == ConnectionState.Name.WAITING) return;
            credentials.startAnew();
            show();
            connect();
        });
    }

    /**
     * The network is back, the app is in front, or the phone was woken: a waiting client connects now, unless the server has
     * asked for a pause, and a connected one finds out whether its link is still alive.
     */
    public void wake() {
        thread.execute(() -> {
            if (state.name() == ConnectionState.Name.CONNECTED) {
                heartbeat.ping();
            } else if (state.name() == ConnectionState.Name.WAITING && clock.localMicros() >= pausedUntil) {
                connect();
            }
        });
    }

    /**
     * Sends a command, over as many connections as it takes; it has one effect. The reply, or a {@link RequestException}. The
     * timers have the result already when it comes.
     */
    public CompletableFuture<JsonObject> send(Request request) {
        CompletableFuture<JsonObject> answer = new CompletableFuture<>();
        RequestException late = RequestException.unanswered("The client was closed");
        if (closed) answer.completeExceptionally(late);
        thread.execute(() -> {
            if (closed) {
                answer.completeExceptionally(late);
                return;
            }
            boolean isNew = store.get(request.timerId()) == null;
            pending.add(request).whenComplete((reply, error) -> {
                if (error == null) {
                    take(request, reply, isNew);
                    show();
                    answer.complete(reply);
                } else {
                    takeRefusal(request, error);
                    show();
                    answer.completeExceptionally(error);
                }
            });
        });
        return answer;
    }

    /** The server's time, for counting down. */
    public ServerClock clock() {
        return clock;
    }

    /** For good. What is not answered by then is not known to have happened, or not to. */
    @Override
    public void close() {
        closed = true;
        thread.execute(() -> {
            WebSocket last = socket;
            disconnect();
            pending.failAll("The client was closed");
            if (last != null) last.close(1000, "bye");
            setState(ConnectionState.of(ConnectionState.Name.CLOSED));
            thread.shutdown();
        });
    }

    // --- the connection ----------------------------------------------------------------------------------------------

    private void connect() {
        retry.run();
        setState(ConnectionState.of(ConnectionState.Name.CONNECTING));
        credentials.get(new Credentials.Outcome() {
            @Override
            public void token(String token) {
                open(token);
            }

            @Override
            public void unreachable(String why) {
                waitToConnect(0, why);
            }

            @Override
            public void signedOut(String why) {
                end(ConnectionState.Name.SIGNED_OUT, why);
            }
        });
    }

    private void open(String token) {
        resumes = hasSnapshot && store.all().size() <= MOST_SYNCED && sizeOf(sync().toString()) <= messageBytes;
        // Without a sync, what the first snapshot does not have is gone, unless it was changed over this connection before.
        doubtful.clear();
        if (!resumes) doubtful.addAll(store.ids());
        // The device goes into the query: the header DeviceId is how the older app's dialect is told.
        HttpUrl.Builder url = address.newBuilder().addQueryParameter("deviceId", deviceId);
        if (resumes) url.addQueryParameter("resume", "1");
        okhttp3.Request request = new okhttp3.Request.Builder()
                .url(url.build())
                .header("Authorization", "Bearer " + token) // not in the query, which ends up in logs
                .build();
        openedAt = clock.localMicros();
        socket = http.newWebSocket(request, new SocketListener());
        greeting = later(GREETING_MILLIS, () -> lose("no greeting"));
    }

    private void receive(String text) {
        try {
            dispatch(JsonParser.parseString(text).getAsJsonObject());
        } catch (RuntimeException error) { // whatever it is: going on with half of a message taken in would be worse
            lose("a message that can't be understood: " + error);
        }
        show();
    }

    private void dispatch(JsonObject message) {
        String status = textOf(message, "status");
        String type = textOf(message, "type");
        String messageId = textOf(message, "messageId");
        if (status.equals("connected")) {
            greeted(message);
        } else if (messageId.equals(SYNC_ID) && status.equals("error")) {
            hasSnapshot = message.get("code").getAsInt() == 503; // else it would be refused again
            lose("sync was refused");
        } else if (messageId.equals(Credentials.AUTH_ID)) {
            if (status.equals("processed")) credentials.accepted(message);
        } else if (!status.isEmpty()) {
            pending.settle(message);
        } else if (type.equals("pong")) {
            heartbeat.ponged(message);
        } else if (type.equals("snapshot")) {
            takeSnapshot(message);
        } else if (type.equals("timer") || type.equals("share")) {
            deliver(type + "." + textOf(message, "action"), message);
        } // `reconnect` announces an end with 1012, which is dealt with when it comes; others are for later clients
    }

    private void greeted(JsonObject message) {
        greeting.run();
        connectedAt = clock.localMicros();
        userId = message.get("userId").getAsString();
        messageBytes = message.getAsJsonObject("limits").get("messageBytes").getAsLong();
        long serverTime = IsoTime.parseInstant(message.get("serverTime").getAsString());
        clock.exchanged(openedAt, serverTime, serverTime, connectedAt); // a first guess; the pings follow
        credentials.accepted(message);
        setState(ConnectionState.of(ConnectionState.Name.CONNECTED));
        if (resumes) transmit(sync().toString());
        heartbeat.start(message.getAsJsonObject("heartbeat").get("intervalMs").getAsLong());
        pending.connected(messageBytes);
    }

    private JsonObject sync() {
        JsonObject sync = store.versions();
        sync.addProperty("type", "sync");
        sync.addProperty("messageId", SYNC_ID);
        return sync;
    }

    /** The link is dead or useless, though nobody closed it. */
    private void lose(String why) {
        WebSocket dead = socket;
        ended(CloseCode.CUT, 0, why);
        if (dead != null) dead.cancel();
    }

    private void ended(CloseCode code, long pauseMillis, String why) {
        if (connectedAt >= 0 && clock.localMicros() - connectedAt >= STABLE_MICROS) backoff.reset();
        disconnect();
        if (code == CloseCode.TOKEN_EXPIRED) credentials.refused();
        if (code == CloseCode.TOO_BIG) pending.failAll("A request was too long for the server");
        waitToConnect(Math.max(code.pauseMillis, pauseMillis), why);
    }

    private void handshakeFailed(int httpStatus, long retryAfterMillis, String why) {
        switch (httpStatus) {
            case 401 -> ended(CloseCode.TOKEN_EXPIRED, 0, why);
            case 400, 403, 404 -> {
                disconnect();
                end(ConnectionState.Name.REFUSED, why);
            }
            default -> ended(CloseCode.CUT, retryAfterMillis, why);
        }
    }

    private void waitToConnect(long pauseMillis, String why) {
        long delay = pauseMillis > 0 ? backoff.next(pauseMillis) : backoff.next();
        pausedUntil = clock.localMicros() + (pauseMillis > 0 ? delay * 1_000 : 0);
        retry = later(delay, this::connect);
        setState(new ConnectionState(ConnectionState.Name.WAITING, delay, why));
    }

    private void end(ConnectionState.Name name, String why) {
        pending.failAll(why);
        setState(new ConnectionState(name, 0, why));
    }

    private void disconnect() {
        socket = null;
        connectedAt = -1;
        greeting.run();
        retry.run();
        heartbeat.stop();
        credentials.disconnected();
        pending.disconnected();
    }

    // --- the timers --------------------------------------------------------------------------------------------------

    private void takeSnapshot(JsonObject message) {
        hasSnapshot = true;
        List<Timer> timers = new ArrayList<>();
        for (JsonElement each : message.getAsJsonArray("timers")) timers.add(Timer.from(each.getAsJsonObject()));
        List<String> gone = new ArrayList<>();
        for (JsonElement each : message.getAsJsonArray("gone")) gone.add(each.getAsString());
        Set<String> here = new HashSet<>();
        timers.forEach(timer -> here.add(timer.id()));
        doubtful.stream().filter(id -> !here.contains(id)).forEach(gone::add);
        doubtful.clear();
        store.mergeSnapshot(timers, gone);
    }

    private void deliver(String kind, JsonObject message) {
        switch (kind) {
            case "timer.update", "share.add" -> store.merge(Timer.from(message.getAsJsonObject("timer")));
            case "timer.stop" -> store.stop(message.get("timerId").getAsString(), message.get("version").getAsLong());
            case "share.remove" -> {
                if (textOf(message, "sharedWithUser").equals(userId)) store.forget(message.get("timerId").getAsString());
            }
            default -> {}
        }
        show(); // before it is said to have been shown
        JsonObject ack = new JsonObject();
        ack.addProperty("type", "ack");
        ack.addProperty("messageId", message.get("messageId").getAsString());
        transmit(ack.toString());
    }

    private void take(Request request, JsonObject reply, boolean wasNew) {
        doubtful.remove(request.timerId());
        long version = reply.get("version").getAsLong();
        switch (request.kind()) {
            case "timer.update" -> store.updated(request.timerId(), userId, request.fields(), version, wasNew);
            case "timer.stop" -> store.stop(request.timerId(), version);
            case "share.add", "share.remove" -> {
                List<String> members = new ArrayList<>();
                for (JsonElement member : reply.getAsJsonArray("sharedWith")) members.add(member.getAsString());
                store.mergeAudience(request.timerId(), members, reply.get("shareVersion").getAsLong());
                boolean left = request.kind().equals("share.remove") && request.sharedWithUser().equals(userId);
                if (left) store.forget(request.timerId());
            }
            default -> {
                // The server leaves the timer out when it was taken from us meanwhile.
                if (reply.has("timer")) store.merge(Timer.from(reply.getAsJsonObject("timer")));
            }
        }
    }

    private void takeRefusal(Request request, Throwable error) {
        if (!(error instanceof RequestException refusal)) return;
        if (refusal.code == 404) store.forget(request.timerId());
        if (refusal.current == null) return;
        Timer current = Timer.from(refusal.current);
        if (refusal.current.has("stoppedBy")) store.stop(current.id(), current.version());
        else store.merge(current);
    }

    private void show() {
        List<Timer> timers = store.all();
        if (timers.equals(shown)) return;
        shown = timers;
        listener.onTimers(timers);
    }

    // --- plumbing ----------------------------------------------------------------------------------------------------

    private void transmit(String text) {
        if (socket != null) socket.send(text);
    }

    private void setState(ConnectionState next) {
        state = next;
        listener.onState(next);
    }

    private Runnable later(long millis, Runnable task) {
        if (thread.isShutdown()) return () -> {};
        ScheduledFuture<?> future = thread.schedule(task, millis, TimeUnit.MILLISECONDS);
        return () -> future.cancel(false);
    }

    private static long sizeOf(String text) {
        return text.getBytes(StandardCharsets.UTF_8).length;
    }

    private static String textOf(JsonObject message, String name) {
        return message.has(name) ? message.get(name).getAsString() : "";
    }

    private static ScheduledThreadPoolExecutor ownThread() {
        ScheduledThreadPoolExecutor thread = new ScheduledThreadPoolExecutor(1, task -> {
            Thread made = new Thread(task, "bubble-timer");
            made.setDaemon(true);
            return made;
        });
        thread.setRemoveOnCancelPolicy(true);
        thread.setRejectedExecutionHandler(new ThreadPoolExecutor.DiscardPolicy()); // what comes after `close`
        return thread;
    }

    /** Brings OkHttp's calls to the client's thread. A socket that was given up may still speak: it is not listened to. */
    private final class SocketListener extends WebSocketListener {
        @Override
        public void onMessage(WebSocket from, String text) {
            hear(from, () -> receive(text));
        }

        @Override
        public void onClosing(WebSocket from, int code, String reason) {
            from.close(1000, null); // OkHttp leaves the answer to us
            hear(from, () -> ended(CloseCode.of(code), 0, code + " " + reason));
        }

        @Override
        public void onFailure(WebSocket from, Throwable error, Response response) {
            int status = response == null ? 0 : response.code();
            String retryAfter = response == null ? null : response.header("Retry-After");
            long pause = retryAfter == null || !retryAfter.matches("\\d{1,4}") ? 0 : Long.parseLong(retryAfter) * 1_000;
            String why = status > 0 ? "the handshake was answered with " + status : String.valueOf(error.getMessage());
            hear(from, () -> {
                if (connectedAt < 0) handshakeFailed(status, pause, why);
                else ended(CloseCode.CUT, 0, why);
            });
        }

        private void hear(WebSocket from, Runnable what) {
            thread.execute(() -> {
                if (from == socket) what.run();
            });
        }
    }

    /** What a client is made of. The rest has defaults. */
    public static final class Builder {
        private final OkHttpClient http;
        private final String address;
        private final String deviceId;
        private final TokenSource tokens;
        private final BubbleListener listener;
        private Collection<Timer> known = List.of();
        private LongSupplier localMicros = () -> System.nanoTime() / 1_000;
        private DoubleSupplier random = Math::random;
        private Duration giveUpAfter = Duration.ofSeconds(60);

        /**
         * @param http the app's own: its threads, proxies and certificates are used
         * @param address such as {@code wss://example.org/ws}
         * @param deviceId the same at every start of the app on this device
         */
        public Builder(
                OkHttpClient http, String address, String deviceId, TokenSource tokens, BubbleListener listener) {
            this.http = http;
            this.address = address;
            this.deviceId = deviceId;
            this.tokens = tokens;
            this.listener = listener;
        }

        /** Timers that were kept from the last time: shown at once, and the first sync asks only for what is different. */
        public Builder known(Collection<Timer> timers) {
            known = List.copyOf(timers);
            return this;
        }

        /** On Android: {@code () -> SystemClock.elapsedRealtimeNanos() / 1_000}. */
        public Builder localClock(LongSupplier micros) {
            localMicros = micros;
            return this;
        }

        public Builder random(DoubleSupplier numbers) {
            random = numbers;
            return this;
        }

        /** How long a request may be without an answer before it fails. */
        public Builder giveUpAfter(Duration time) {
            giveUpAfter = time;
            return this;
        }

        public BubbleClient build() {
            return new BubbleClient(this);
        }
    }
}
