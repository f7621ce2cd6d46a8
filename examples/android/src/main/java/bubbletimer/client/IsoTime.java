package bubbletimer.client;

import java.time.Duration;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.TemporalAccessor;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** ISO-8601 texts as the protocol has them, to and from microseconds. */
public final class IsoTime {
    private static final Pattern WEEKS = Pattern.compile("([+-]?)P([+-]?\\d+)W(?:([+-]?\\d+)D)?(T.*)?");

    private IsoTime() {}

    /** A moment: microseconds since 1970. A text without a zone means UTC. */
    public static long parseInstant(String text) {
        TemporalAccessor parsed =
                DateTimeFormatter.ISO_DATE_TIME.parseBest(text, OffsetDateTime::from, LocalDateTime::from);
        OffsetDateTime when =
                parsed instanceof OffsetDateTime zoned ? zoned : ((LocalDateTime) parsed).atOffset(ZoneOffset.UTC);
        return when.toEpochSecond() * 1_000_000 + when.getNano() / 1_000;
    }

    /** A length of time, in microseconds. java.time.Duration knows no weeks; other clients may. */
    public static long parseDuration(String text) {
        Matcher weeks = WEEKS.matcher(text);
        if (weeks.matches()) {
            long days = Long.parseLong(weeks.group(2)) * 7;
            if (weeks.group(3) != null) days += Long.parseLong(weeks.group(3));
            String rest = weeks.group(4) == null ? "" : weeks.group(4);
            return micros(Duration.parse(weeks.group(1) + "P" + days + "D" + rest));
        }
        return micros(Duration.parse(text));
    }

    private static long micros(Duration duration) {
        return duration.getSeconds() * 1_000_000 + duration.getNano() / 1_000;
    }
}
