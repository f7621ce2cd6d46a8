package bubbletimer.watch;

import bubbletimer.client.TokenSource;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.util.concurrent.CompletableFuture;
import okhttp3.Call;
import okhttp3.Callback;
import okhttp3.HttpUrl;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;

/** Tokens of a server in development mode, which believes everybody. */
final class DevTokens implements TokenSource {
    private final OkHttpClient http;
    private final HttpUrl address;
    private final String user;

    DevTokens(OkHttpClient http, String url, String user) {
        this.http = http;
        this.address = HttpUrl.get(url.replaceFirst("^ws", "http")).resolve("/dev/token");
        this.user = user;
    }

    @Override
    public CompletableFuture<String> token(String refused) {
        JsonObject body = new JsonObject();
        body.addProperty("user", user);
        RequestBody json = RequestBody.create(body.toString(), MediaType.get("application/json"));
        CompletableFuture<String> token = new CompletableFuture<>();
        http.newCall(new Request.Builder().url(address).post(json).build()).enqueue(new Callback() {
            @Override
            public void onFailure(Call call, IOException error) {
                token.completeExceptionally(error);
            }

            @Override
            public void onResponse(Call call, Response response) throws IOException {
                try (response) {
                    if (response.code() >= 500) throw new IOException("no token now: " + response.code());
                    if (response.code() != 200) throw new IllegalStateException("no token: " + response.code());
                    String text = response.body().string();
                    token.complete(JsonParser.parseString(text).getAsJsonObject().get("token").getAsString());
                } catch (IOException | IllegalStateException error) {
                    token.completeExceptionally(error);
                }
            }
        });
        return token;
    }
}
