"""What `bubble load` counts."""

from cli.load import Tally, quantile, verdict


def test_a_delivery_is_timed_from_the_sending_whichever_comes_first_it_or_the_acknowledgement() -> None:
    tally = Tally()
    tally.delivery("t", 1, 10.02)
    tally.reply("t", 1, sent_at=10.0, now=10.03)
    tally.delivery("t", 1, 10.05)
    assert [round(each, 3) for each in tally.deliveries] == [0.02, 0.05]
    assert [round(each, 3) for each in tally.replies] == [0.03]
    assert (tally.acknowledged, tally.delivered) == (1, 2)


def test_deliveries_of_somebody_elses_updates_are_counted_but_not_timed() -> None:
    tally = Tally()
    for version in range(20_000):
        tally.delivery("other", version, 1.0)
    assert tally.deliveries == []
    assert len(tally._early) <= 10_000


def test_quantiles_are_in_milliseconds() -> None:
    values = [number / 1_000 for number in range(1, 101)]
    assert quantile(values, 0.5) == 51.0
    assert quantile(values, 0.99) == 100.0
    assert quantile([], 0.5) is None


def test_the_verdict_names_every_fault() -> None:
    result = {
        "well": False,
        "seconds": 1.0,
        "sent": 10,
        "acknowledged": 8,
        "delivered": 5,
        "refused": {"503 busy": 2},
        "unanswered": 1,
        "missingStates": 3,
        "lostConnections": 4,
        "replyMs": {"p50": 1.0, "p99": None},
        "deliveryMs": {"p50": 1.0, "p99": 2.0},
    }
    text = verdict(result).plain
    for part in ("8 of 10", "refused 2 times: 503 busy", "1 updates without", "3 states", "4 connections"):
        assert part in text
    assert "Every device" not in text
