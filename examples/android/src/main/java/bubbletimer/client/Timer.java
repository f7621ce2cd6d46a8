package bubbletimer.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;

/**
 * A timer as the server has it. Texts of times are kept as they came; what the server left out is null.
 *
 * <p>With endTime it runs, with only remainingDuration it is paused, with neither it has not been started.
 */
public record Timer(
        String id,
        String userId,
        String name,
        String totalDuration,
        String remainingDuration,
        String endTime,
        long version,
        List<String> sharedWith,
        long shareVersion) {

    public Timer {
        sharedWith = List.copyOf(sharedWith);
    }

    static Timer from(JsonObject json) {
        List<String> sharedWith = new ArrayList<>();
        if (json.has("sharedWith")) {
            for (JsonElement member : json.getAsJsonArray("sharedWith")) sharedWith.add(member.getAsString());
        }
        return new Timer(
                json.get("id").getAsString(),
                text(json, "userId"),
                text(json, "name"),
                text(json, "totalDuration"),
                text(json, "remainingDuration"),
                text(json, "endTime"),
                json.get("version").getAsLong(),
                sharedWith,
                json.has("shareVersion") ? json.get("shareVersion").getAsLong() : 0);
    }

    /** As it came, for whoever wants to keep it over a restart of the program. */
    public JsonObject toJson() {
        JsonObject json = new JsonObject();
        json.addProperty("id", id);
        for (String[] field : new String[][] {
            {"userId", userId}, {"name", name}, {"totalDuration", totalDuration},
            {"remainingDuration", remainingDuration}, {"endTime", endTime},
        }) {
            if (field[1] != null) json.addProperty(field[0], field[1]);
        }
        json.addProperty("version", version);
        JsonArray members = new JsonArray();
        sharedWith.forEach(members::add);
        json.add("sharedWith", members);
        json.addProperty("shareVersion", shareVersion);
        return json;
    }

    public boolean isRunning() {
        return endTime != null;
    }

    /**
     * Microseconds that are left, below zero when it has run out; empty when it was not started and has no length.
     *
     * @param serverNowMicros the time by the server's clock: {@link ServerClock#nowMicros}
     */
    public OptionalLong remainingMicros(long serverNowMicros) {
        if (endTime != null) return OptionalLong.of(IsoTime.parseInstant(endTime) - serverNowMicros);
        String text = remainingDuration != null ? remainingDuration : totalDuration;
        return text == null ? OptionalLong.empty() : OptionalLong.of(IsoTime.parseDuration(text));
    }

    /** The same timer with the state of another one, or with its audience. */
    Timer withState(Timer state) {
        return new Timer(id, state.userId, state.name, state.totalDuration, state.remainingDuration, state.endTime,
                state.version, sharedWith, shareVersion);
    }

    Timer withAudience(List<String> members, long itsVersion) {
        return new Timer(id, userId, name, totalDuration, remainingDuration, endTime, version, members, itsVersion);
    }

    /** The state after an update of our own: absent fields keep what is, and the two of the run state go together. */
    Timer updated(JsonObject fields, long newVersion) {
        boolean newRun = text(fields, "endTime") != null || text(fields, "remainingDuration") != null;
        return new Timer(
                id,
                userId,
                text(fields, "name") != null ? text(fields, "name") : name,
                text(fields, "totalDuration") != null ? text(fields, "totalDuration") : totalDuration,
                newRun ? text(fields, "remainingDuration") : remainingDuration,
                newRun ? text(fields, "endTime") : endTime,
                newVersion,
                sharedWith,
                shareVersion);
    }

    private static String text(JsonObject json, String name) {
        JsonElement value = json.get(name);
        return value == null || value.isJsonNull() ? null : value.getAsString();
    }
}
