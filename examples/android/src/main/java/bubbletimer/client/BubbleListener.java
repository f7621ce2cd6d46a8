package bubbletimer.client;

import java.util.List;

/** What a client tells. Called on the client's thread: hand over to the main thread, and return soon. */
public interface BubbleListener {
    /** The timers have changed; this is all of them. */
    void onTimers(List<Timer> timers);

    default void onState(ConnectionState state) {}
}
