"""`make run`, as a newcomer meets it (mostly without make: the command it runs)."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.system.client import Client

PORTS = (
    "BUBBLE_EDGE_PORT",
    *(
        f"BUBBLE_{service}_{port}"
        for service in ("TIMER", "SHARING", "CONNECTION")
        for port in ("PORT", "METRICS_PORT")
    ),
)


def _environment(data_dir: Path) -> dict[str, str]:
    sockets = [socket.socket() for _ in PORTS]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = {name: str(each.getsockname()[1]) for name, each in zip(PORTS, sockets, strict=True)}
    for each in sockets:
        each.close()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))}
    return {**inherited, **ports, "BUBBLE_DATA_DIR": str(data_dir), "BUBBLE_DRAIN_SECONDS": "1"}


async def _launch(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "run",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _output_until(process: asyncio.subprocess.Process, pattern: str) -> str:
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(30):
        while not re.search(pattern, text):
            line = await process.stdout.readline()
            assert line, f"ended before {pattern!r}:\n{text}"
            text += line.decode()
    return text


@asynccontextmanager
async def _running(environment: dict[str, str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """One that is up, and what it has said until then; it ends well on Ctrl-C."""
    process = await _launch(environment)
    try:
        yield process, await _output_until(process, r"Ctrl-C stops it")
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0


async def _refused(environment: dict[str, str]) -> str:
    """What one says that does not start."""
    process = await _launch(environment)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.terminate()
    assert process.returncode == 1
    return output.decode()


async def test_it_prints_an_address_and_a_token_that_work_and_keeps_its_data(tmp_path: Path) -> None:
    environment = _environment(tmp_path / "data")
    port = int(environment["BUBBLE_EDGE_PORT"])
    for round_number in range(2):
        async with _running(environment) as (_, text):
            assert f"http://127.0.0.1:{port}/" in text
            printed = re.search(r"development token:\s+(\S+)", text)
            assert printed
            async with Client(port, "alice", "phone", token=printed.group(1)) as alice:
                if round_number == 0:
                    await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})
                else:
                    assert [timer["name"] for timer in alice.snapshot["timers"]] == ["Tea"]
            refusal = await _refused(environment | {"BUBBLE_DATA_DIR": str(tmp_path / "other")})
            assert re.fullmatch(r"Port \d+ \(\w+\) is taken: .*BUBBLE_\w+_PORT.*\n", refusal)


async def test_ports_of_0_are_free_ones_and_the_printed_address_works(tmp_path: Path) -> None:
    environment = _environment(tmp_path / "data") | dict.fromkeys(PORTS, "0")
    async with _running(environment) as (_, text):
        printed = re.search(r"is up:\s+http://127\.0\.0\.1:(\d+)/[^$]*development token:\s+(\S+)", text)
        assert printed
        async with Client(int(printed[1]), "alice", "phone", token=printed[2]) as alice:
            await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})


async def test_two_systems_never_share_a_data_directory_and_one_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = await _launch(_environment(data))
    try:
        await _output_until(first, r"Ctrl-C stops it")
        refusal = await _refused(_environment(data))
        assert re.fullmatch(rf"Another `make run` uses {data}: stop it, or set BUBBLE_DATA_DIR.*\n", refusal)
    finally:
        first.kill()
        await first.communicate()
    async with _running(_environment(data)):
        pass


async def test_a_data_directory_that_can_not_be_had_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    refusal = await _refused(_environment(tmp_path / "data"))
    assert re.fullmatch(r"\S+/data can't be used: File exists\. BUBBLE_DATA_DIR .*\n", refusal)


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    async with _running(_environment(tmp_path / "data")) as (process, _):
        timer = next(
            pid for pid in _children(process.pid) if b"timer_service" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(timer, signal.SIGKILL)
        await _output_until(process, r"timer ended with -9, starting it again\n(.*\n)*.*serving")


async def test_make_that_is_told_to_end_ends_all_processes_in_order(tmp_path: Path) -> None:
    venv = Path(sys.prefix)  # which is not made anew, whatever its age
    process = await asyncio.create_subprocess_exec(
        "make",
        f"--old-file={venv / 'runtime'}",
        f"VENV={venv}",
        "run",
        cwd=ROOT,
        env=_environment(tmp_path / "data"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        await _output_until(process, r"Ctrl-C stops it")
        process.terminate()
        text = (await asyncio.wait_for(process.communicate(), 20))[0].decode()  # read to its end: nobody has it open
        assert text.count('"event": "stopped"') == 4, text
        assert "killing it" not in text
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the others are told when the launcher is gone


@pytest.mark.parametrize("given", [None, "mine"])
async def test_all_processes_say_what_commit_they_are_built_from_unless_told_otherwise(
    tmp_path: Path, given: str | None
) -> None:
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    environment = _environment(tmp_path / "data") | ({} if given is None else {"BUBBLE_BUILD": given})
    async with _running(environment) as (_, text):
        started = [json.loads(line) for line in text.splitlines() if '"starting"' in line]
    assert [line["build"] for line in started] == [given or git.stdout.strip()] * 4


async def test_wrong_settings_are_named_in_one_line(tmp_path: Path) -> None:
    process = await _launch(_environment(tmp_path) | {"BUBBLE_MESSAGES_PER_SECOND": "many"})
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert "BUBBLE_MESSAGES_PER_SECOND" in output.decode()
    assert len(output.decode().splitlines()) == 1
