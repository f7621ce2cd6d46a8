"""`bubble` beside a real system: what a person types, and what comes of it."""

import asyncio
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cli.access import Access
from cli.client import Client as CliClient
from cli.errors import ExitCode
from tests.faults.link import Link
from tests.system.client import Client, token
from tests.system.cluster import Cluster
from tests.system.conftest import Connect
from tests.system.monitoring import value
from tests.system.shell import ROOT, Lines, Shell, Terminal

pytestmark = pytest.mark.one_store

Names = Callable[[str], str]
Person = Callable[[str], Shell]
OwnCluster = Callable[..., Awaitable[Cluster]]


@pytest.fixture
def person(cluster: Cluster, unique: Names, tmp_path: Path) -> Person:
    """The shell of a user of this test only, on a system that wants tokens."""

    def make(user: str) -> Shell:
        url = f"http://127.0.0.1:{cluster.edge_port}"
        return Shell(tmp_path, {"BUBBLE_URL": url, "BUBBLE_TOKEN": token(unique(user))})

    return make


@pytest.fixture
async def development(own_cluster: OwnCluster, tmp_path: Path) -> Shell:
    """A shell beside a development system, with nothing set but where that is."""
    cluster = await own_cluster(BUBBLE_DEV="1")
    return Shell(tmp_path, {"BUBBLE_URL": f"http://127.0.0.1:{cluster.edge_port}"})


async def test_a_timers_whole_life_as_others_see_it(person: Person, connect: Connect, unique: Names) -> None:
    alice, bob = person("alice"), unique("bob")
    async with connect("bob", "phone") as phone:
        started = (await alice.done("start", "Tea", "5m", "--share", bob, "--json")).data["timer"]
        assert (started["state"], started["totalDuration"], started["sharedWith"]) == ("running", "PT5M", [bob])
        assert 290 < started["leftSeconds"] <= 300
        shared = await phone.expect(lambda message: message.get("type") == "share")
        assert shared["timer"]["name"] == "Tea"

        paused = await alice.done("pause", "tea")
        assert paused.out.startswith("“Tea” is paused: ")
        assert "remainingDuration" in await phone.update(started["id"])

        extended = (await alice.done("extend", started["id"][:6], "1h30m", "--json")).data["timer"]
        assert 5_690 < extended["leftSeconds"] <= 5_700
        await phone.update(started["id"])
        assert "is running" in (await alice.done("resume", "Tea")).out
        assert "endTime" in await phone.update(started["id"])

        listed = (await alice.done("list", "--json")).data
        assert [(timer["name"], timer["state"]) for timer in listed["timers"]] == [("Tea", "running")]
        table = (await alice.done("list")).out
        for part in ("Tea", "running", bob, started["id"][:8]):
            assert part in table

        assert "is shared with nobody" in (await alice.done("revoke", "Tea", bob)).out
        await phone.expect(lambda message: message.get("type") == "share" and message["action"] == "remove")
        assert "is shared with" in (await alice.done("share", "Tea", bob)).out
        await phone.expect(lambda message: message.get("type") == "share" and message["action"] == "add")

        assert (await alice.done("stop", "Tea")).out == "“Tea” is stopped.\n"
        await phone.expect(lambda message: message.get("action") == "stop")
        assert "No timers" in (await alice.done("list")).out


async def test_starting_again_takes_ones_own_timer_of_that_name_unless_it_runs(person: Person) -> None:
    alice = person("alice")
    first = (await alice.done("start", "Tea", "5m", "--json")).data["timer"]
    refused = await alice.run("start", "Tea", "5m")
    assert refused.code == ExitCode.FAILED
    assert "is running" in refused.err
    assert "--new" in refused.err
    await alice.done("pause", "Tea")
    again = (await alice.done("start", "Tea", "10m", "--json")).data["timer"]
    assert (again["id"], again["totalDuration"]) == (first["id"], "PT10M")
    assert again["leftSeconds"] > 590
    other = (await alice.done("start", "Tea", "1m", "--new", "--json")).data["timer"]
    assert other["id"] != first["id"]
    ambiguous = await alice.run("pause", "Tea")
    assert ambiguous.code == ExitCode.NOT_FOUND
    assert first["id"][:8] in ambiguous.err
    await alice.done("stop", first["id"], other["id"])


async def test_a_timer_that_runs_is_left_alone_and_shared_all_the_same(person: Person, unique: Names) -> None:
    alice, bob, zoe = person("alice"), unique("bob"), unique("zoe")
    await alice.done("start", "Tea", "5m", "--share", bob)
    refused = await alice.run("start", "Tea", "10m", "--share", zoe)
    assert (refused.code, refused.out) == (ExitCode.FAILED, "")
    assert re.match("Error: “Tea” is running already, and left alone: (5:00|4:5[0-9]) left", refused.err)
    assert f" left. Shared with {bob}, {zoe}.\n" in refused.err
    assert "bubble extend Tea 5m" in refused.err
    (tea,) = (await alice.done("list", "--json")).data["timers"]
    assert (tea["totalDuration"], tea["sharedWith"]) == ("PT5M", [bob, zoe])
    assert "Shared" not in (await alice.run("start", "Tea", "10m")).err


async def test_a_member_may_do_what_members_may_and_leaves_by_itself(person: Person, unique: Names) -> None:
    alice, bob = person("alice"), person("bob")
    await alice.done("start", "Tea", "5m", "-s", unique("bob"))
    await bob.done("extend", "Tea", "60s")
    refused = await bob.run("share", "Tea", unique("carol"))
    assert refused.code == ExitCode.NOT_YOURS
    assert refused.err.startswith("Error: Only the owner can add and remove members.\n")
    assert "You have left" in (await bob.done("revoke", "Tea", unique("bob"))).out
    gone = await bob.run("pause", "Tea")
    assert gone.code == ExitCode.NOT_FOUND


async def test_a_link_makes_whoever_has_it_a_member(person: Person, connect: Connect, unique: Names) -> None:
    alice, bob = person("alice"), person("bob")
    tea = (await alice.done("start", "Tea", "5m", "--json")).data["timer"]["id"]
    invited = await alice.done("invite", "tea")
    link = invited.out.removesuffix("\n")
    assert link.startswith(f"{alice.environment['BUBBLE_URL']}/#join=")  # alone in a line: it goes through pipes
    assert "whoever has it can join “Tea”" in invited.err

    async with connect("alice", "phone") as phone:
        joined = await bob.done("join", link)
        assert joined.out.startswith(f"You have joined a timer of {unique('alice')}. “Tea” is running: 4:")
        assert (await phone.update(tea))["sharedWith"] == [unique("bob")]
    again = (await bob.done("join", link, "--json")).data["timer"]
    assert (again["id"], again["sharedWith"], again["state"]) == (tea, [unique("bob")], "running")
    assert "a timer of your own" in (await alice.done("join", link)).out

    made = (await alice.done("invite", tea, "--json")).data
    assert set(made) == {"link", "invitation", "timerId", "owner", "expiresAt"}
    assert (made["timerId"], made["owner"]) == (tea, unique("alice"))
    assert made["link"].endswith(made["invitation"])
    await person("carol").done("join", made["invitation"])

    await alice.done("revoke", "Tea", unique("carol"))
    refused = await person("carol").run("join", link)
    assert refused.code == ExitCode.NOT_YOURS
    assert "removed somebody since" in refused.err
    assert "Ask whoever sent the link" in refused.err
    fresh = (await alice.done("invite", "Tea")).out.strip()
    await alice.done("stop", "Tea")
    late = await person("carol").run("join", fresh)
    assert late.code == ExitCode.NOT_FOUND
    assert "no such timer" in late.err


async def test_only_the_owner_can_invite(person: Person, unique: Names) -> None:
    await person("alice").done("start", "Tea", "5m", "-s", unique("bob"))
    refused = await person("bob").run("invite", "Tea")
    assert (refused.code, refused.out) == (ExitCode.NOT_YOURS, "")
    assert refused.err.startswith("Error: Only the owner can invite.\n")


async def test_a_link_of_another_system_does_not_get_ones_token(person: Person) -> None:
    alice = person("alice")
    asked = asyncio.Event()

    async def ask(*_: object) -> None:
        asked.set()

    async with await asyncio.start_server(ask, "127.0.0.1", 0) as elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]
        refused = await alice.run("join", f"http://127.0.0.1:{port}/#join=a.b.c")
    assert (refused.code, refused.out) == (ExitCode.USAGE, "")
    assert f"The link is one of http://127.0.0.1:{port}, and you are at" in refused.err
    assert not asked.is_set()


async def test_a_development_system_needs_no_set_up(development: Shell) -> None:
    await development.done("start", "Tea", "5m", "--user", "alice", "--share", "bob")
    assert [
        timer["userId"] for timer in (await development.done("list", "--user", "bob", "--json")).data["timers"]
    ] == ["alice"]
    assert "No timers" in (await development.done("list")).out  # under the log-in name
    link = (await development.done("invite", "Tea", "--user", "alice")).out.strip()
    assert "You have joined a timer of alice" in (await development.done("join", link, "--user", "carol")).out
    printed = (await development.done("token", "alice")).out.strip()
    assert (await development.done("list", "--token", printed, "--json")).data["userId"] == "alice"


async def test_the_configuration_file_is_enough(person: Person, tmp_path: Path, unique: Names) -> None:
    alice = person("alice")
    environment = alice.environment
    (tmp_path / "bubble").mkdir()
    (tmp_path / "bubble" / "config.toml").write_text(
        f'url = "{environment.pop("BUBBLE_URL")}"\ntoken = "{environment.pop("BUBBLE_TOKEN")}"\n'
    )
    assert (await alice.done("list", "--json")).data["userId"] == unique("alice")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


NOWHERE, NOT_OURS, NO_SERVICE = "<nowhere>", "<not ours>", "<no service>"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("list", "--url", NOWHERE), ExitCode.UNREACHABLE, "can't be reached: connection refused"),
        (("watch", "--url", NOWHERE), ExitCode.UNREACHABLE, "make run"),
        (("load", "--url", NOWHERE, "--for", "1s"), ExitCode.UNREACHABLE, "can't be reached"),
        (("load", "--token", "rubbish", "--for", "1s"), ExitCode.TOKEN, "does not accept the token"),
        (("list", "--url", NOT_OURS), ExitCode.UNREACHABLE, "no Bubble Timer"),
        (("list", "--token", "rubbish"), ExitCode.TOKEN, "does not accept the token"),
        (("list", "--token", token("alice", lifetime=-60)), ExitCode.TOKEN, "expired"),
        (("list", "--user", "alice"), ExitCode.TOKEN, "gives out no development tokens"),
        (("pause", "Nothing"), ExitCode.NOT_FOUND, "There is no timer “Nothing”"),
        (("start", "Nothing"), ExitCode.NOT_FOUND, "bubble start Nothing 5m"),
        (("start", "Tea", "5"), ExitCode.USAGE, "5m, or 5s"),
        (("start", "", "5m"), ExitCode.USAGE, "The timer's name is empty"),
        (("stop", ""), ExitCode.USAGE, "The timer's name is empty"),
        (("list", "--url", "ftp://x"), ExitCode.USAGE, "no address"),
        (("invite", "Nothing"), ExitCode.NOT_FOUND, "There is no timer “Nothing”"),
        (("join", "tea"), ExitCode.USAGE, "no link to join"),
        (("join", "a.b.c"), ExitCode.USAGE, "This is no invitation"),
        (("join", "a.b.c", "--token", "rubbish"), ExitCode.TOKEN, "not valid"),
        (("join", "a.b.c", "--url", NOWHERE), ExitCode.UNREACHABLE, "can't be reached"),
        (("join", "a.b.c", "--url", NOT_OURS), ExitCode.UNREACHABLE, "no Bubble Timer"),
        (("token", "alice", "--hours", "-1"), ExitCode.USAGE, "not for -1"),
        (("connections", "alice", "--address", NO_SERVICE), ExitCode.UNREACHABLE, "inside the system"),
    ],
    ids=lambda value: " ".join(map(str, value)).partition(" ey")[0] if isinstance(value, tuple) else "",
)
async def test_what_goes_wrong_is_told_in_a_sentence_with_a_hint_and_an_exit_code(
    person: Person, cluster: Cluster, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    alice = person("alice")
    places = {
        NOWHERE: f"http://127.0.0.1:{free_port()}",
        NOT_OURS: f"http://127.0.0.1:{cluster.processes['timer'].metrics_port}",
        NO_SERVICE: f"127.0.0.1:{free_port()}",
    }
    arguments = tuple(places.get(argument, argument) for argument in arguments)
    result = await alice.run(*arguments)
    assert (result.code, result.out) == (code, ""), result
    assert words in result.err
    assert result.err.startswith("Error: ")
    assert len(result.err.strip().splitlines()) <= 2
    as_json = await alice.run(*arguments, "--json")
    assert as_json.code == code
    assert set(json.loads(as_json.err)) == {"error", "hint", "exitCode"}


async def test_whoever_is_too_fast_is_told_when_to_come_back(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0.01", BUBBLE_MESSAGE_BURST="1")
    url = f"http://127.0.0.1:{cluster.edge_port}"
    shell = Shell(tmp_path, {"BUBBLE_URL": url, "BUBBLE_TOKEN": token("alice")})
    result = await shell.run("start", "Tea", "5m")  # two messages
    assert result.code == ExitCode.BUSY
    assert "Try again in" in result.err


async def test_whoever_invites_too_often_is_told_when_to_come_back(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = await own_cluster(BUBBLE_INVITATIONS_PER_MINUTE="1")
    shell = Shell(tmp_path, {"BUBBLE_URL": f"http://127.0.0.1:{cluster.edge_port}", "BUBBLE_TOKEN": token("alice")})
    await shell.done("start", "Tea", "5m")
    await shell.done("invite", "Tea")
    result = await shell.run("invite", "Tea")
    assert (result.code, result.out) == (ExitCode.BUSY, "")
    assert "Too many invitations." in result.err
    assert any(f"Try again in {seconds} s" in result.err for seconds in range(30, 61))


async def test_a_system_that_is_not_ready_yet_is_waited_for(
    own_cluster: OwnCluster, unique: Names, tmp_path: Path
) -> None:
    cluster = await own_cluster()
    edge, connection = cluster.processes["edge"], cluster.processes["connection"]
    await edge.kill()
    connection.signal(signal.SIGSTOP)
    try:
        await edge.start()
        shell = Shell(tmp_path, {"BUBBLE_URL": f"http://127.0.0.1:{edge.port}", "BUBBLE_TOKEN": token(unique("alice"))})
        process = await shell.start("list")
        async with asyncio.timeout(20):
            while not await value(edge, "bubble_edge_connects_total", status="503"):
                await asyncio.sleep(0.05)
    finally:
        connection.signal(signal.SIGCONT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")
    assert b"No timers" in out


async def test_a_lost_reply_is_asked_for_again_and_the_command_has_its_effect_once(
    cluster: Cluster, connect: Connect, unique: Names
) -> None:
    async with connect("alice", "phone") as phone, Link(cluster.edge_port) as link:
        await phone.done(type="timer", action="update", timer={"id": unique("tea"), "totalDuration": "PT5M"})
        access = Access(f"http://127.0.0.1:{link.port}", token(unique("alice")), "", "this test")
        async with CliClient(access) as client:
            link.cut(there=False, back=True)
            command = {"type": "timer", "action": "extend", "timerId": unique("tea"), "by": "PT1M"}
            extending = asyncio.create_task(client.command(command))
            assert (await phone.update(unique("tea")))["totalDuration"] == "PT6M"
            assert not extending.done()
            link.refuse()
            link.heal()
            reply = await extending
            assert reply["timer"]["totalDuration"] == "PT6M"
            later = await client.command({**command, "by": "PT2M"})
            assert later["timer"]["totalDuration"] == "PT8M"


async def test_watch_tells_programs_of_everything_one_object_a_line(
    person: Person, connect: Connect, unique: Names
) -> None:
    async with connect("bob", "phone") as phone, Lines(person("alice")) as lines:
        assert [line["event"] for line in lines.seen] == ["connected", "snapshot"]
        timer = {"id": unique("tea"), "name": "Tea", "totalDuration": "PT1S"}
        await phone.done(type="timer", action="update", timer=timer)
        share = {"type": "share", "timerId": timer["id"], "sharedWithUser": unique("alice")}
        await phone.done(**share, action="add")
        shared = await lines.expect("shared")
        assert (shared["by"], shared["timer"]["state"]) == (unique("bob"), "ready")
        await phone.done(type="timer", action="start", timerId=timer["id"])
        started = await lines.expect("timer")
        assert started["text"] == f"{unique('bob')} started “Tea”"
        finished = await lines.expect("finished")
        assert (finished["timer"]["id"], finished["timer"]["leftSeconds"]) == (timer["id"], 0)
        await phone.done(**share, action="remove")
        assert (await lines.expect("unshared"))["timer"]["id"] == timer["id"]
        await phone.done(**share, action="add")
        await lines.expect("shared")
        await phone.done(type="timer", action="stop", timerId=timer["id"])
        stopped = await lines.expect("stopped")
        assert (stopped["by"], stopped["timer"]["state"]) == (unique("bob"), "stopped")


async def test_watch_sees_what_other_terminals_of_the_same_user_do(person: Person) -> None:
    alice = person("alice")
    async with Lines(alice) as lines:
        await alice.done("start", "Tea", "5m")
        running = await lines.expect("timer", wanted=lambda line: line["timer"]["state"] == "running")
        assert running["timer"]["name"] == "Tea"
        await alice.done("stop", "Tea")
        stopped = await lines.expect("stopped")
        assert stopped["timer"]["state"] == "stopped"
        assert "leftSeconds" not in stopped["timer"]


async def test_watch_outlives_the_edge_and_learns_what_it_missed(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = await own_cluster()
    edge = cluster.processes["edge"]
    shell = Shell(tmp_path, {"BUBBLE_URL": f"http://127.0.0.1:{edge.port}", "BUBBLE_TOKEN": token("alice")})
    async with Lines(shell) as lines:
        for name in ("Tea", "Eggs"):
            await shell.done("start", name, "5m")
            await lines.expect("timer", wanted=lambda line: line["timer"]["state"] == "running")
        await edge.kill()
        assert (await lines.expect("disconnected"))["retryInSeconds"] >= 0
        await edge.start()
        await cluster.wait_until_ready()
        async with Client(edge.port, "alice", "phone") as phone:
            tea, eggs = (
                next(timer["id"] for timer in phone.snapshot["timers"] if timer["name"] == name)
                for name in ("Tea", "Eggs")
            )
            await phone.done(type="timer", action="pause", timerId=tea)
            await phone.done(type="timer", action="stop", timerId=eggs)
        # Live or from the sync, whichever was first; in whatever order.
        missing = {"Tea", "Eggs"}
        while missing:
            line = await lines.expect("timer", "gone", "stopped")
            if line["event"] != "timer" or line["timer"]["state"] == "paused":
                missing.discard(line["timer"]["name"])
                assert (line["event"] == "timer") == (line["timer"]["name"] == "Tea")


async def test_a_development_system_that_was_set_up_anew_gives_a_new_token(
    own_cluster: OwnCluster, tmp_path: Path
) -> None:
    cluster = await own_cluster(BUBBLE_DEV="1")
    edge = cluster.processes["edge"]
    shell = Shell(tmp_path, {"BUBBLE_URL": f"http://127.0.0.1:{edge.port}"})
    async with Lines(shell, "--user", "alice") as lines:
        await edge.kill()
        await edge.start(BUBBLE_JWT_SECRET="another secret, which makes all tokens of before worthless")
        await lines.expect("snapshot")


async def test_watch_ends_when_its_token_is_of_no_use_any_more(own_cluster: OwnCluster, tmp_path: Path) -> None:
    cluster = await own_cluster()
    edge = cluster.processes["edge"]
    environment = {"BUBBLE_URL": f"http://127.0.0.1:{edge.port}", "BUBBLE_TOKEN": token("alice", lifetime=3)}
    process = await Shell(tmp_path, environment).start("watch", "--json")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == ExitCode.TOKEN
    assert b"expired" in err
    assert b"Traceback" not in err


async def test_ctrl_c_ends_it_without_a_word(person: Person) -> None:
    process = await person("alice").start("watch", "--json")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (ExitCode.INTERRUPTED, b"")


async def test_a_reader_that_has_enough_is_no_fault(person: Person) -> None:
    process = await person("alice").start("watch", "--json")
    assert process.stdout is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # as `head -1` does
    await person("alice").done("start", "Tea", "5m")
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (0, b"")


async def test_a_reader_who_wants_nothing_is_no_fault_either(person: Person) -> None:
    environment = person("alice").environment
    script = f"{shlex.quote(sys.executable)} -m cli list | true; echo ${{PIPESTATUS[0]}}"
    assert (await asyncio.to_thread(bash, script, environment)).strip() == "0"


async def test_watch_for_a_while_ends_by_itself(person: Person) -> None:
    result = await person("alice").done("watch", "--for", "1s")
    assert "connected to" in result.out
    assert "0 timers" in result.out


async def test_in_a_terminal_it_draws_bars_and_leaves_the_terminal_as_it_was(person: Person) -> None:
    alice = person("alice")
    async with Terminal(alice, "watch") as terminal:
        await terminal.shows("\x1b[?1049h")  # the other screen
        await terminal.shows("live")
        await alice.done("start", "Tea", "5m")
        await terminal.shows("Tea")
        await terminal.shows("█")
        await terminal.shows("4:5")
        await alice.done("pause", "Tea")
        await terminal.shows("paused “Tea”")
        terminal.process.send_signal(signal.SIGINT)
        await terminal.shows("\x1b[?1049l")
        assert await terminal.ends() == ExitCode.INTERRUPTED
        assert "Traceback" not in terminal.text


async def test_in_a_terminal_sigterm_leaves_the_terminal_as_it_was_too(person: Person) -> None:
    async with Terminal(person("alice"), "watch", columns=30, rows=8) as terminal:
        await terminal.shows("live")
        terminal.process.terminate()
        await terminal.shows("\x1b[?1049l")
        assert await terminal.ends() == 128 + signal.SIGTERM


async def test_a_terminal_without_unicode_is_no_fault(person: Person) -> None:
    result = await person("alice").done("start", "Tea", "5m", PYTHONIOENCODING="ascii")
    assert "?Tea? is running" in result.out


async def test_doctor_looks_at_a_system_from_outside(cluster: Cluster, person: Person, unique: Names) -> None:
    alice = person("alice")
    url = alice.environment["BUBBLE_URL"]
    report = (await alice.done("doctor", "--url", url, "--json")).data
    assert report["well"] is True
    assert [check["name"] for check in report["checks"]] == ["server", "token", "timers", "answers", "clock"]
    assert f"good for {unique('alice')}, until 20" in report["checks"][1]["told"]
    for arguments, name in (
        (("--token", "rubbish"), "token"),
        (("--url", f"http://127.0.0.1:{free_port()}"), "server"),
    ):
        result = await alice.run("doctor", "--url", url, *arguments, "--json")
        assert result.code == 1
        assert [check["name"] for check in result.data["checks"] if not check["well"]] == [name]
    text = await alice.run("doctor", "--url", url, "--token", "rubbish")
    assert "✗ token" in text.out


async def test_connections_are_listed_for_those_who_run_the_system(
    cluster: Cluster, person: Person, unique: Names, connect: Connect
) -> None:
    address = f"127.0.0.1:{cluster.processes['connection'].port}"
    alice = person("alice")
    async with connect("alice", "phone"):
        found = (await alice.done("connections", unique("alice"), "--address", address, "--json")).data["connections"]
        assert [(each["userId"], each["deviceId"]) for each in found] == [(unique("alice"), "phone")]
        table = await alice.done("connections", unique("alice"), BUBBLE_CONNECTION_ADDRESS=address)
        assert "phone" in table.out
    assert "No connections" in (await alice.done("connections", unique("nobody"), "--address", address)).out


async def test_a_load_says_what_it_saw_and_leaves_nothing_behind(development: Shell) -> None:
    result = await development.done("load", "--devices", "6", "--group", "3", "--for", "2s", "--json")
    found = result.data
    assert found["well"] is True
    assert found["sent"] == found["acknowledged"] == 60
    assert found["delivered"] >= found["acknowledged"]  # each to two others; newer states may replace older ones
    assert found["replyMs"]["p50"] > 0
    assert found["deliveryMs"]["p50"] > 0


async def test_with_a_token_a_load_is_that_users_devices(person: Person) -> None:
    alice = person("alice")
    text = (await alice.done("load", "--devices", "3", "--for", "1s")).out
    assert "15 of 15 updates acknowledged" in text
    assert "Every device has the last state of every timer." in text
    assert (await alice.done("list", "--json")).data["timers"] == []


async def test_a_load_that_is_ended_early_leaves_nothing_behind_either(person: Person) -> None:
    alice = person("alice")
    process = await alice.start("load", "--devices", "3", "--for", "60s", "--json")
    async with Lines(alice) as lines:
        await lines.expect("timer")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, err) == (ExitCode.INTERRUPTED, b"")
        assert (await alice.done("list", "--json")).data["timers"] == []


async def test_more_devices_than_a_user_may_have_are_refused_in_a_sentence(person: Person) -> None:
    result = await person("alice").run("load", "--devices", "40", "--for", "1s")
    assert result.code == ExitCode.BUSY
    assert "does not permit one user 40 connections" in result.err


def bash(script: str, environment: dict[str, str]) -> str:
    result = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout


async def test_bash_completes_commands_options_and_the_names_of_timers(person: Person, tmp_path: Path) -> None:
    alice = person("alice")
    await alice.done("start", "Tea", "5m")
    await alice.done("start", "Bread", "45m")
    program = tmp_path / "bin" / "bubble"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli "$@"\n')
    program.chmod(0o755)
    environment = alice.environment | {"PATH": f"{program.parent}:{alice.environment['PATH']}"}

    async def completed(*words: str) -> list[str]:
        script = (
            'eval "$(_BUBBLE_COMPLETE=source_bash bubble)"; '
            f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
            'COMP_LINE="${COMP_WORDS[*]}"; _bubble_completion bubble; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return (await asyncio.to_thread(bash, script, environment)).split()

    assert await completed("bubble", "re") == ["resume", "revoke"]
    assert "--share" in await completed("bubble", "start", "--s")
    assert await completed("bubble", "pause", "T") == ["Tea"]
    environment["BUBBLE_URL"] = f"http://127.0.0.1:{free_port()}"
    assert await completed("bubble", "pause", "T") == []


def test_the_program_runs_from_anywhere(tmp_path: Path) -> None:
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("it works in the checkout's own virtual environment")
    (tmp_path / "bubble").symlink_to(ROOT / "bubble")
    result = subprocess.run(
        [tmp_path / "bubble", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "Usage: bubble" in result.stdout
