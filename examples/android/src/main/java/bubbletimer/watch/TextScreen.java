package bubbletimer.watch;

import bubbletimer.client.ConnectionState;
import bubbletimer.client.ServerClock;
import bubbletimer.client.Timer;
import com.google.gson.JsonObject;
import java.io.PrintStream;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** The timers on a terminal, drawn anew each second and when something changes. */
final class TextScreen implements Screen {
    private static final String CLEAR = "\u001b[H\u001b[2J";

    private final PrintStream out;
    private ServerClock clock;
    private List<Timer> timers = List.of();
    private ConnectionState state;
    private String news = "";

    TextScreen(PrintStream out) {
        this.out = out;
    }

    @Override
    public void begin(ServerClock itsClock) {
        clock = itsClock;
        ScheduledExecutorService ticks = Executors.newSingleThreadScheduledExecutor(task -> {
            Thread made = new Thread(task, "screen");
            made.setDaemon(true);
            return made;
        });
        ticks.scheduleAtFixedRate(this::draw, 1, 1, TimeUnit.SECONDS);
    }

    @Override
    public synchronized void onTimers(List<Timer> all) {
        timers = all;
        draw();
    }

    @Override
    public synchronized void onState(ConnectionState next) {
        state = next;
        draw();
    }

    @Override
    public synchronized void done(String command, JsonObject reply) {
        news = command + ": done";
        draw();
    }

    @Override
    public synchronized void failed(String command, Throwable error) {
        news = command + ": " + error.getMessage();
        draw();
    }

    private synchronized void draw() {
        StringBuilder page = new StringBuilder(CLEAR);
        page.append(state == null ? "" : state.name() + " " + state.message()).append('\n');
        for (Timer timer : timers) page.append(line(timer)).append('\n');
        page.append(news).append('\n');
        out.print(page);
        out.flush();
    }

    private String line(Timer timer) {
        OptionalLong left = clock.isSet() ? timer.remainingMicros(clock.nowMicros()) : OptionalLong.empty();
        String what = timer.isRunning() ? "runs" : timer.remainingDuration() != null ? "paused" : "";
        String with = timer.sharedWith().isEmpty() ? "" : " with " + String.join(", ", timer.sharedWith());
        return String.format("%-24s %10s  %-6s %s%s", timer.name().isEmpty() ? timer.id() : timer.name(),
                left.isPresent() ? clockText(left.getAsLong()) : "", what, timer.userId(), with);
    }

    /** Rounded up, as countdowns are: 0:00 means over. */
    static String clockText(long micros) {
        long seconds = Math.floorDiv(Math.max(micros, 0) + 999_999, 1_000_000);
        long hours = seconds / 3_600;
        String minutes = hours > 0 ? String.format("%d:%02d", hours, seconds / 60 % 60) : String.valueOf(seconds / 60);
        return String.format("%s:%02d", minutes, seconds % 60);
    }
}
