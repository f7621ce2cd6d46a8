package bubbletimer.client;

/**
 * What a screen may want to say about the link.
 *
 * @param retryInMillis when WAITING: until the next attempt
 * @param message when WAITING, SIGNED_OUT or REFUSED: why, in words for a developer
 */
public record ConnectionState(Name name, long retryInMillis, String message) {
    public enum Name {
        CONNECTING,
        /** The server's state is here, or coming with the next message. */
        CONNECTED,
        WAITING,
        /** The token is of no use any more, and there is no new one. The person must sign in. */
        SIGNED_OUT,
        /** The server does not take this client as it is, and never will: a fault of ours. */
        REFUSED,
        CLOSED,
    }

    static ConnectionState of(Name name) {
        return new ConnectionState(name, 0, "");
    }
}
