package bubbletimer.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class IsoTimeTest {
    @ParameterizedTest
    @CsvSource({
        "PT5M, 300000000", "PT0S, 0", "PT-5M-3S, -303000000", "PT0.123456789S, 123456", "P1DT1H, 90000000000",
        "P2W, 1209600000000", "-P1WT1S, -604801000000", "P1W1D, 691200000000",
    })
    void durationsOfAllClientsAreRead(String text, long micros) {
        assertEquals(micros, IsoTime.parseDuration(text));
    }

    @ParameterizedTest
    @CsvSource({
        "1970-01-01T00:00:01Z, 1000000", "1970-01-01T00:00:01.5Z, 1500000", "1970-01-01T01:00+01:00, 0",
        "1970-01-01T00:01, 60000000", "1970-01-01T00:00:00.123456789, 123456",
    })
    void momentsOfAllClientsAreReadAndMeanUtcWithoutAZone(String text, long micros) {
        assertEquals(micros, IsoTime.parseInstant(text));
    }
}
