package bubbletimer.client;

/** Runs things later, on the client's thread. */
interface Later {
    /** Returns what calls it off. */
    Runnable after(long millis, Runnable task);
}
