package bubbletimer.client;

/** Why the server closes a socket, and what a client may do then: the table of docs/protocol.md. */
public enum CloseCode {
    BYE(1000),
    PROTOCOL_ERROR(1002),
    /** The connection broke without a word. No server sends this one. */
    CUT(1006),
    /** One message was far too long. It would be so again: what waits is given up, the connection is not. */
    TOO_BIG(1009),
    INTERNAL(1011),
    RESTARTING(1012),
    UNAVAILABLE(1013),
    /** The only one after which the same connect can't succeed: a new token is needed first. */
    TOKEN_EXPIRED(4401),
    HEARTBEAT_TIMEOUT(4408),
    TOO_MANY_CONNECTIONS(4409, 30_000),
    IDLE(4410),
    TOO_OLD(4411),
    TOO_SLOW(4413),
    RATE_ABUSE(4429, 60_000);

    public final int code;

    /** Milliseconds to wait at least, whatever the back-off says. */
    public final long pauseMillis;

    CloseCode(int code) {
        this(code, 0);
    }

    CloseCode(int code, long pauseMillis) {
        this.code = code;
        this.pauseMillis = pauseMillis;
    }

    /** A code that this client does not know is treated as a connection that broke. */
    public static CloseCode of(int code) {
        for (CloseCode each : values()) {
            if (each.code == code) return each;
        }
        return CUT;
    }
}
