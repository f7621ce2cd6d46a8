package bubbletimer.client;

import com.google.gson.JsonObject;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The timers this device knows. No I/O, not thread-safe: the client's thread has it.
 *
 * <p>Deliveries are of states, at least once, and may overtake each other. {@code version} orders a timer's state and
 * {@code shareVersion} its audience, each on its own.
 */
public final class TimerStore {
    /** Overtaking takes seconds; of the stops, the oldest are forgotten first. */
    static final int STOPS_KEPT = 1_000;

    private final Map<String, Timer> timers = new LinkedHashMap<>();

    /** By timer id, the version of its stop: an update that the stop overtook must not bring the timer back. */
    private final Map<String, Long> stops = new LinkedHashMap<>();

    public TimerStore(Collection<Timer> known) {
        known.forEach(this::merge);
    }

    public Timer get(String id) {
        return timers.get(id);
    }

    public List<Timer> all() {
        return List.copyOf(timers.values());
    }

    public boolean isEmpty() {
        return timers.isEmpty();
    }

    /** Takes of a timer what is not older than what is known. */
    public void merge(Timer incoming) {
        Timer known = timers.get(incoming.id());
        if (known == null) {
            if (incoming.version() <= stops.getOrDefault(incoming.id(), -1L)) return;
            stops.remove(incoming.id());
            timers.put(incoming.id(), incoming);
            return;
        }
        if (incoming.version() >= known.version()) known = known.withState(incoming);
        timers.put(known.id(), known);
        mergeAudience(known.id(), incoming.sharedWith(), incoming.shareVersion());
    }

    public void mergeAudience(String id, List<String> members, long shareVersion) {
        timers.computeIfPresent(
                id, (key, known) -> shareVersion < known.shareVersion() ? known : known.withAudience(members, shareVersion));
    }

    /** Our own update was done, and had this version. What the server has told us of a later state counts more. */
    public void updated(String id, String ownUser, JsonObject fields, long version, boolean wasNew) {
        Timer known = timers.get(id);
        if (known == null) {
            // One that we knew when we asked was taken from us, or stopped, while the update was under way.
            if (wasNew) merge(new Timer(id, ownUser, "", null, null, null, version, List.of(), 0).updated(fields, version));
        } else if (version > known.version()) {
            timers.put(id, known.updated(fields, version));
        }
    }

    public void stop(String id, long version) {
        Timer known = timers.get(id);
        if (known != null && known.version() > version) return; // created anew since
        timers.remove(id);
        stops.merge(id, version, Math::max);
        if (stops.size() > STOPS_KEPT) stops.remove(stops.keySet().iterator().next());
    }

    /** It is not ours to see any more. Shared again, it comes back in the version it had, so nothing is kept of it. */
    public void forget(String id) {
        timers.remove(id);
    }

    /** Takes a first snapshot, or the answer to a sync. What is missing in it is not thereby gone. */
    public void mergeSnapshot(Collection<Timer> changed, Collection<String> gone) {
        changed.forEach(this::merge);
        gone.forEach(this::forget);
    }

    /** What {@code sync} asks with: the two fields of that request. */
    public JsonObject versions() {
        JsonObject versions = new JsonObject();
        JsonObject shareVersions = new JsonObject();
        for (Timer timer : timers.values()) {
            versions.addProperty(timer.id(), timer.version());
            shareVersions.addProperty(timer.id(), timer.shareVersion());
        }
        JsonObject both = new JsonObject();
        both.add("versions", versions);
        both.add("shareVersions", shareVersions);
        return both;
    }

    Set<String> ids() {
        return Set.copyOf(timers.keySet());
    }
}
