package bubbletimer.client;

import com.google.gson.JsonObject;

/** A request was refused, or not answered. */
public final class RequestException extends Exception {
    private static final long serialVersionUID = 1L;

    /** The server's code (docs/protocol.md); 0: there was no answer. */
    public final int code;

    /** What the request is called in the server's traces and logs; may be empty. */
    public final String traceId;

    /** The timer as it is, when the request was refused for its version; else null. */
    final transient JsonObject current;

    RequestException(int code, String message) {
        super(message);
        this.code = code;
        this.traceId = "";
        this.current = null;
    }

    /** The server's error message. */
    RequestException(JsonObject error) {
        super(error.get("error").getAsString());
        this.code = error.get("code").getAsInt();
        this.traceId = error.has("traceId") ? error.get("traceId").getAsString() : "";
        this.current = error.has("timer") ? error.getAsJsonObject("timer") : null;
    }

    static RequestException unanswered(String why) {
        return new RequestException(0, why);
    }
}
