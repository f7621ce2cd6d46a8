package bubbletimer.watch;

import bubbletimer.client.BubbleListener;
import bubbletimer.client.ServerClock;
import com.google.gson.JsonObject;

/** Where the timers are shown. */
interface Screen extends BubbleListener {
    /** Called once, before anything else: the clock to count down by. */
    void begin(ServerClock clock);

    void done(String command, JsonObject reply);

    void failed(String command, Throwable error);
}
