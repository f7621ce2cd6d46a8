package bubbletimer.client;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.time.Duration;
import java.util.UUID;

/**
 * A command, with the messageId that makes it repeatable: sent again under the same id, by the same device, it has no second
 * effect. Keep {@link #json()} if a command is to outlive the process.
 */
public final class Request {
    private final JsonObject json;

    private Request(JsonObject json) {
        this.json = json;
    }

    /** Makes a timer, or changes what is given: a null keeps what is stored. */
    public static Request update(
            String timerId, String name, String totalDuration, String remainingDuration, String endTime) {
        JsonObject timer = new JsonObject();
        timer.addProperty("id", timerId);
        if (name != null) timer.addProperty("name", name);
        if (totalDuration != null) timer.addProperty("totalDuration", totalDuration);
        if (remainingDuration != null) timer.addProperty("remainingDuration", remainingDuration);
        if (endTime != null) timer.addProperty("endTime", endTime);
        JsonObject json = message("timer", "update");
        json.add("timer", timer);
        return new Request(json);
    }

    /** action: start, pause, resume or stop. */
    public static Request command(String action, String timerId) {
        JsonObject json = message("timer", action);
        json.addProperty("timerId", timerId);
        return new Request(json);
    }

    public static Request extend(String timerId, Duration by) {
        JsonObject json = command("extend", timerId).json;
        json.addProperty("by", by.toString());
        return new Request(json);
    }

    public static Request share(String timerId, String user) {
        return sharing("add", timerId, user);
    }

    /** The owner removes anybody, a member itself. */
    public static Request unshare(String timerId, String user) {
        return sharing("remove", timerId, user);
    }

    /** One that was kept as text. */
    public static Request parse(String json) {
        return new Request(JsonParser.parseString(json).getAsJsonObject());
    }

    private static Request sharing(String action, String timerId, String user) {
        JsonObject json = message("share", action);
        json.addProperty("timerId", timerId);
        json.addProperty("sharedWithUser", user);
        return new Request(json);
    }

    private static JsonObject message(String type, String action) {
        JsonObject json = new JsonObject();
        json.addProperty("type", type);
        json.addProperty("action", action);
        json.addProperty("messageId", UUID.randomUUID().toString());
        return json;
    }

    public String json() {
        return json.toString();
    }

    public String messageId() {
        return json.get("messageId").getAsString();
    }

    public String timerId() {
        return json.has("timer")
                ? json.getAsJsonObject("timer").get("id").getAsString()
                : json.get("timerId").getAsString();
    }

    String kind() {
        return json.get("type").getAsString() + "." + json.get("action").getAsString();
    }

    JsonObject fields() {
        return json.getAsJsonObject("timer");
    }

    String sharedWithUser() {
        return json.get("sharedWithUser").getAsString();
    }
}
