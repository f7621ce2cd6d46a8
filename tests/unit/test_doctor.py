"""`cli/doctor.py`: what is made of the processes' answers. Whole systems: `tests/system/test_doctor.py`."""

import io
from collections.abc import Mapping

import pytest
from rich.console import Console

from cli import doctor
from cli.doctor import Finding, Samples, Target, diagnose

READY: dict[str, object] = {"status": "ready"}


def samples(service: str, **values: float) -> Samples:
    lines = [f'bubble_build_info{{service="{service}",version="1.2.3",build="abc",store="sqlite",python="3.11"}} 1']
    lines += [f"bubble_{name} {value}" for name, value in values.items()]
    return Samples("\n".join(lines) + "\n")


def look(service: str, values: Mapping[str, float], readiness: Mapping[str, object] = READY) -> Finding:
    return diagnose(Target(service, "10.0.0.7", 9051), readiness, samples(service, **values))


HEALTHY_TIMER = {"outbox_pending_age_seconds": 0.4, "outbox_pending_items": 2}
HEALTHY_CONNECTION = {
    "connection_leases": 2,
    "connection_edges_attached": 2,
    "connection_edges_suspect": 0,
    "connection_connections": 17,
}
HEALTHY_EDGE = {"edge_streams": 2, "edge_streams_attached": 2, "edge_connections": 17}


def test_a_healthy_process_has_no_problems() -> None:
    findings = [
        look("timer", HEALTHY_TIMER),
        look("connection", HEALTHY_CONNECTION),
        look("edge", HEALTHY_EDGE),
    ]
    assert [finding.problems for finding in findings] == [[], [], []]
    assert doctor.all_is_well(findings)
    timer, connection, edge = findings
    assert (timer.version, timer.build, timer.store, timer.pending_age_seconds) == ("1.2.3", "abc", "sqlite", 0.4)
    assert (connection.edges_attached, connection.edges_expected, connection.connections) == (2, 2, 17)
    assert (edge.edges_attached, edge.connections) == (2, 17)


@pytest.mark.parametrize(
    ("service", "readiness", "values", "state", "words"),
    [
        ("timer", {"status": "not ready", "reason": "database: disk full"}, HEALTHY_TIMER, "not ready", "disk full"),
        ("timer", READY | {"degraded": {"sharing": "no answer"}}, HEALTHY_TIMER, "degraded", "can't use sharing"),
        ("timer", READY, HEALTHY_TIMER | {"outbox_pending_age_seconds": 42.0}, "ready", "2 changes are not delivered"),
        ("connection", READY, HEALTHY_CONNECTION | {"connection_edges_attached": 1}, "ready", "1 of 2 edges hold"),
        ("connection", READY, HEALTHY_CONNECTION | {"connection_edges_suspect": 1}, "ready", "1 edges are slow"),
        ("connection", READY, dict.fromkeys(HEALTHY_CONNECTION, 0), "ready", "no edge holds a lease"),
        ("edge", READY, HEALTHY_EDGE | {"edge_streams_attached": 1}, "ready", "attached to 1 of 2"),
        (
            "edge",
            READY,
            HEALTHY_EDGE
            | {'queue_items{queue="timer.write"}': 600, 'queue_limit_items{queue="timer.write"}': 1_000}
            | {'queue_items{queue="timer.get"}': 400, 'queue_limit_items{queue="timer.get"}': 1_000},
            "ready",
            "the queue timer.write is 60% full",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    service: str, readiness: dict[str, object], values: dict[str, float], state: str, words: str
) -> None:
    finding = look(service, values, readiness)
    assert finding.state == state
    (problem,) = finding.problems
    assert words in problem
    assert not doctor.all_is_well([finding])


def test_what_is_worth_knowing_but_no_fault_is_a_note() -> None:
    finding = look("edge", HEALTHY_EDGE | {"clock_skew_total": 3, "edge_congested_connections": 4})
    assert finding.problems == []
    assert len(finding.notes) == 2


def test_something_else_on_the_port_is_told_apart() -> None:
    finding = diagnose(Target("timer", "10.0.0.7", 9051), READY, Samples("go_goroutines 7\n"))
    assert "something else listens there" in finding.problems[0]


def test_stores_that_differ_are_a_problem_and_versions_that_differ_a_note() -> None:
    findings = [look("timer", HEALTHY_TIMER), look("sharing", HEALTHY_TIMER)]
    findings[1].store, findings[1].version = "mongodb", "1.2.4"
    doctor._compare(findings)
    assert ["same kind of store" in problem for finding in findings for problem in finding.problems] == [True, True]
    assert [finding.notes for finding in findings] == [
        [f"not all processes run the same version: this one runs {version}, build abc"]
        for version in ("1.2.3", "1.2.4")
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_a_person_is_told_word_for_word_whatever_the_width_of_the_terminal(width: int) -> None:
    broken = look("edge", HEALTHY_EDGE, READY | {"degraded": {"timer": "[bold]no[/bold] answer at [::1]:50051"}})
    console = Console(width=width, record=True, file=io.StringIO())
    doctor.show([broken, look("timer", HEALTHY_TIMER | {"clock_skew_total": 1})], console)
    text = console.export_text()
    for word in ("degraded", "ready", "1.2.3", "abc", "sqlite", "2 of 2", "0.4 s"):
        assert word in text
    told = " ".join(text.split())
    assert "wrong edge 10.0.0.7:9051: can't use timer: [bold]no[/bold] answer at [::1]:50051" in told
    assert "note timer 10.0.0.7:9051: clocks of the machines differ" in told
    assert "All is well." not in told


def test_in_80_columns_each_process_has_one_line_though_there_is_a_long_build() -> None:
    findings = [
        look("edge", HEALTHY_EDGE),
        look("timer", HEALTHY_TIMER | {"outbox_pending_age_seconds": 1_234.5}, {"status": "not ready"}),
        look("connection", HEALTHY_CONNECTION, READY | {"degraded": {"push": "no answer"}}),
        doctor._unreachable(Target("sharing", "172.18.0.10", 9052), TimeoutError()),
    ]
    for finding in findings[:3]:
        finding.address, finding.build = "172.18.0.10:9051", "v1.2.3-45-g25e4dda-dirty"
    console = Console(width=80, record=True, file=io.StringIO())
    doctor.show(findings, console)
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["edge", "timer", "connection", "sharing"]
    assert [line.split()[1] for line in lines[2:6]] == ["172.18.0.10:9051"] * 3 + ["172.18.0.10:9052"]
    assert lines[6] == "All run the build v1.2.3-45-g25e4dda-dirty."


def test_when_nothing_is_wrong_that_is_said() -> None:
    console = Console(record=True, file=io.StringIO())
    doctor.show([look("timer", HEALTHY_TIMER)], console)
    assert "All is well." in console.export_text()


async def test_processes_are_found_by_the_settings_they_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BUBBLE_EDGE_HOST": "0.0.0.0",  # noqa: S104
        "BUBBLE_EDGE_PORT": "8081",
        "BUBBLE_TIMER_ADDRESS": "127.0.0.2:50051,127.0.0.3:50051",
        "BUBBLE_SHARING_ADDRESS": "localhost:50052",
        "BUBBLE_CONNECTION_ADDRESS": "no.such.host.invalid:50053",
        "BUBBLE_CONNECTION_METRICS_PORT": "9999",
        "BUBBLE_STORE": "mongodb",  # without a MONGODB_URI: no concern of this
    }.items():
        monkeypatch.setenv(name, value)
    found = await doctor.find(["127.0.0.9:8082", "127.0.0.2:9051"])
    assert [(target.process, target.address) for target in found] == [
        ("edge", "127.0.0.1:8081"),
        ("timer", "127.0.0.2:9051"),
        ("timer", "127.0.0.3:9051"),
        ("sharing", "127.0.0.1:9052"),
        ("connection", "no.such.host.invalid:9999"),
        ("", "127.0.0.9:8082"),
    ]


async def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        await doctor.find(["somewhere"])
