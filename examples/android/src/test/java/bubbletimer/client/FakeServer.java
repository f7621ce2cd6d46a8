package bubbletimer.client;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.time.Instant;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

/** A server that says what a test wants, over a real socket. */
final class FakeServer implements AutoCloseable {
    static final long WITHIN_SECONDS = 20;

    private final MockWebServer server = new MockWebServer();

    FakeServer() throws IOException {
        server.start();
    }

    String address() {
        return server.url("/ws").toString().replaceFirst("^http", "ws");
    }

    /** The next handshake is let in. */
    Link accept() {
        Link link = new Link();
        server.enqueue(new MockResponse.Builder().webSocketUpgrade(link).build());
        return link;
    }

    /** The next handshake is answered with a status. */
    void refuse(int status, String... header) {
        MockResponse.Builder response = new MockResponse.Builder().code(status);
        if (header.length > 0) response.setHeader(header[0], header[1]);
        server.enqueue(response.build());
    }

    RecordedRequest handshake() throws Exception {
        RecordedRequest request = server.takeRequest(WITHIN_SECONDS, TimeUnit.SECONDS);
        if (request == null) throw new TimeoutException("nobody connected");
        return request;
    }

    int handshakes() {
        return server.getRequestCount();
    }

    @Override
    public void close() {
        server.close();
    }

    /** One connection. */
    static final class Link extends WebSocketListener {
        private final BlockingQueue<WebSocket> opened = new LinkedBlockingQueue<>();
        private final BlockingQueue<JsonObject> heard = new LinkedBlockingQueue<>();
        private WebSocket socket;

        @Override
        public void onOpen(WebSocket itsSocket, Response response) {
            opened.add(itsSocket);
        }

        @Override
        public void onMessage(WebSocket from, String text) {
            JsonObject message = JsonParser.parseString(text).getAsJsonObject();
            if (message.get("type").getAsString().equals("ping")) {
                message.addProperty("type", "pong");
                message.addProperty("receivedTime", Instant.now().toString());
                message.addProperty("serverTime", Instant.now().toString());
                from.send(message.toString());
            } else {
                heard.add(message);
            }
        }

        @Override
        public void onClosing(WebSocket from, int code, String reason) {
            from.close(code, reason);
        }

        /** Waits for the handshake, and says `connected`. */
        Link greet(String... more) throws Exception {
            socket = opened.poll(WITHIN_SECONDS, TimeUnit.SECONDS);
            if (socket == null) throw new TimeoutException("nobody connected");
            say("{'type':'connected','status':'connected','connectionId':'c','userId':'alice','deviceId':'pixel',"
                    + "'serverTime':'" + Instant.now() + "'," + String.join("", more)
                    + "'heartbeat':{'intervalMs':25000,'timeoutMs':45000},"
                    + "'limits':{'messageBytes':16384,'messagesPerSecond':20,'messageBurst':60}}");
            return this;
        }

        Link say(String text) {
            socket.send(text.replace('\'', '"'));
            return this;
        }

        /** The next message that is no ping. */
        JsonObject hear() throws Exception {
            JsonObject message = heard.poll(WITHIN_SECONDS, TimeUnit.SECONDS);
            if (message == null) throw new TimeoutException("heard nothing");
            return message;
        }

        boolean heardNothing() {
            return heard.isEmpty();
        }

        void close(int code) {
            socket.close(code, "for a test");
        }
    }
}
