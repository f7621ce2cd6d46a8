package bubbletimer.client;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Time that goes on only when a test says so. */
final class ManualTime implements Later {
    private record Task(long at, Runnable what) {}

    private final List<Task> tasks = new ArrayList<>();
    private long nowMillis;

    @Override
    public Runnable after(long millis, Runnable task) {
        Task planned = new Task(nowMillis + millis, task);
        tasks.add(planned);
        return () -> tasks.remove(planned);
    }

    long micros() {
        return nowMillis * 1_000;
    }

    void pass(long millis) {
        long end = nowMillis + millis;
        while (true) {
            Task next = tasks.stream().min(Comparator.comparingLong(Task::at)).filter(task -> task.at <= end).orElse(null);
            if (next == null) break;
            tasks.remove(next);
            nowMillis = next.at;
            next.what.run();
        }
        nowMillis = end;
    }
}
