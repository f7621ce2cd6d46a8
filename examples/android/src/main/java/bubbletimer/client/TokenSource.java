package bubbletimer.client;

import java.util.concurrent.CompletableFuture;

/** Where tokens come from: the app's sign-in. Called on the client's thread, so it must not block. */
@FunctionalInterface
public interface TokenSource {
    /**
     * A token that is good for a while.
     *
     * @param refused one that is about to expire, or that the server did not take: do not return it; null: any will do
     * @return fails when the person must sign in again
     */
    CompletableFuture<String> token(String refused);
}
