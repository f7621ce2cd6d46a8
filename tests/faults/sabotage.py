"""Breaks each mechanism on purpose, in a copy of the source, to see that a test fails: `python -m tests.faults.sabotage`.

A test that can't fail proves nothing. Every entry takes one mechanism away, and names the test that must notice. That the
texts to be replaced are still there is checked with the other tests (`test_sabotage.py`).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_COPIED = (
    "connection_service",
    "edge",
    "proto",
    "runtime",
    "sharing_service",
    "tests",
    "timer_service",
    "pyproject.toml",
)
_FAILED = 1  # pytest's exit code for failed tests; 2 and above are errors of the run itself


class Edit(NamedTuple):
    """One place in a file."""

    path: str
    old: str
    new: str


class Sabotage(NamedTuple):
    """A mechanism, how it is broken, and the test that must fail (pytest's node id, and what to select of it)."""

    mechanism: str
    edits: tuple[Edit, ...]
    test: str
    select: str = "sqlite"


_MECHANISMS = "tests/faults/test_mechanisms.py::test_"

SABOTAGES = (
    Sabotage(
        "skip the outbox marker",
        (Edit("timer_service/domain.py", "        pending_since_us=now_us,\n", "        pending_since_us=0,\n"),),
        f"{_MECHANISMS}a_state_whose_delivery_was_under_way_when_its_service_died_is_delivered",
    ),
    Sabotage(
        "tell who is added only once",
        (Edit("sharing_service/relay.py", "twice=bool(change.added)", "twice=False"),),
        f"{_MECHANISMS}who_is_added_while_a_change_is_being_committed_is_shown_it",
    ),
    Sabotage(
        "believe what was saved last for more than saving again",
        (
            Edit(
                "timer_service/servicer.py",
                "            if not all_change and timer_id in unconfirmed:\n",
                "            if timer_id == '' and timer_id in unconfirmed:\n",
            ),
        ),
        "tests/servicers/test_timer_servicer.py::test_a_base_version_is_compared_with_the_stored_one",
        select="",
    ),
    Sabotage(
        "clear the marker before the delivery",
        (
            Edit(
                "runtime/outbox.py",
                "            items = await self._outbox.events([entry.change for entry in entries], settled=repeated)\n",
                "            await self._outbox.clear([entry.change for entry in entries])\n"
                "            items = await self._outbox.events([entry.change for entry in entries], settled=repeated)\n",
            ),
        ),
        f"{_MECHANISMS}a_state_whose_delivery_was_under_way_when_its_service_died_is_delivered",
    ),
    Sabotage(
        "no sweeper",
        (
            Edit(
                "runtime/outbox.py",
                '            group.create_task(self._sweep_forever(), name="sweeper")\n',
                "            pass\n",
            ),
        ),
        f"{_MECHANISMS}a_state_that_could_not_be_delivered_in_time_is_delivered_later",
    ),
    Sabotage(
        "read the snapshot before the announcement",
        (
            Edit(
                "edge/session.py",
                "            if await self._register():\n",
                "            _EARLY[self] = await self._hub.backend.snapshot(timer_pb2.SnapshotItem(user_id=self.user_id))\n"
                "            if await self._register():\n",
            ),
            Edit(
                "edge/session.py",
                "                snapshot = await self._hub.backend.snapshot(item)\n",
                "                snapshot = _EARLY.pop(self, None) or await self._hub.backend.snapshot(item)\n",
            ),
            Edit("edge/session.py", "_SNAPSHOT_ATTEMPTS = 3\n", "_SNAPSHOT_ATTEMPTS = 3\n_EARLY: dict = {}\n"),
        ),
        f"{_MECHANISMS}what_is_committed_while_a_connection_is_being_registered",
    ),
    Sabotage(
        "drop the fencing of connection ids",
        (
            Edit(
                "edge/presence.py",
                "        connection_id = secrets.token_hex(8)\n",
                '        connection_id = f"{user_id}.{device_id}"\n',
            ),
        ),
        f"{_MECHANISMS}the_late_end_of_an_old_connection_does_not_take_its_successor_away",
    ),
    Sabotage(
        "remember no operations",
        (Edit("runtime/operations.py", "    if operation_id:\n", "    if operation_id is None:\n"),),
        f"{_MECHANISMS}a_command_whose_answer_was_lost_is_repeated_at_another_edge_and_happens_once",
        "sqlite and once",
    ),
    Sabotage(
        "one memory of operations for all devices",
        (
            Edit("runtime/operations.py", "    writers = [each.writer for each in operations]\n",
                 "    return (*operations[1:], operation)\n    writers = [each.writer for each in operations]\n"),
        ),
        f"{_MECHANISMS}a_command_whose_answer_was_lost_is_repeated_at_another_edge_and_happens_once",
        "sqlite and forty",
    ),
    Sabotage(
        "save whatever the stored version is",
        (
            Edit("timer_service/store/sqlite.py", '            "WHERE timer_id = ? AND version = ?",\n',
                 '            "WHERE timer_id = ? AND ? > 0",\n'),
        ),
        "tests/store/test_timer_store.py",
    ),
    Sabotage(
        "show whatever comes, in the order in which it comes",
        (Edit("edge/knowledge.py", "            if state.version < known.version:\n", "            if False:\n"),),
        "tests/unit/test_knowledge.py",
        "",
    ),
    Sabotage(
        "let everybody wait, however long",
        (Edit("runtime/pace.py", "* self._call_seconds <= patience:\n", "* self._call_seconds <= 3_600:\n"),),
        "tests/unit/test_pace.py::test_at_twice_what_a_store_takes_most_of_it_is_still_done_and_in_time",
        "",
    ),
    Sabotage(
        "calls as large as ever, however slow they are",
        (Edit("runtime/pace.py", "        if seconds > LONGEST_CALL:\n", "        if seconds > 3_600:\n"),),
        "tests/unit/test_pace.py::test_at_twice_what_a_store_takes_most_of_it_is_still_done_and_in_time",
        "",
    ),
    Sabotage(
        "sweep what is under way, too",
        (Edit("runtime/outbox.py", "attempt.due <= now and not self._is_under_way(marker):\n", "attempt.due <= now:\n"),),
        "tests/unit/test_outbox.py",
        "",
    ),
    Sabotage(
        "everybody comes back at the same moment",
        (Edit("edge/errors.py", "_RETRY_SPREAD = 3 ", "_RETRY_SPREAD = 1 "),),
        "tests/unit/test_errors.py",
        "",
    ),
)  # fmt: skip


def sabotaged(sabotage: Sabotage, directory: Path) -> None:
    """Makes a copy of the source without the mechanism. Raises ValueError when a text is not there exactly once."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    for edit in sabotage.edits:
        path = directory / edit.path
        path.write_text(edited(path.read_text(), edit))


def edited(text: str, edit: Edit) -> str:
    """The text after one edit. Raises ValueError when the old text is not there exactly once."""
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.path} has {text.count(edit.old)} times {edit.old!r}")
    return text.replace(edit.old, edit.new)


def survives(sabotage: Sabotage) -> bool:
    """Whether the tests pass without the mechanism, which they must not. Raises RuntimeError when they can't be run."""
    with tempfile.TemporaryDirectory() as directory:
        sabotaged(sabotage, Path(directory))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", sabotage.test.split("::")[0]]
        named = sabotage.test.partition("::")[2]
        wanted = " and ".join(part for part in (named, sabotage.select) if part)
        run = subprocess.run(  # our own tests
            [*command, "-k", wanted] if wanted else command,
            cwd=directory,
            env=os.environ | {"PYTHONPATH": directory},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode not in (0, _FAILED):
            raise RuntimeError(f"{sabotage.mechanism}: pytest ended with {run.returncode}\n{run.stdout[-3_000:]}")
        return run.returncode == 0


def main() -> None:
    """Exits with 1 when a mechanism can be taken away without a test that fails."""
    missed = 0
    for sabotage in SABOTAGES:
        print(f"{sabotage.mechanism}: ", end="", flush=True)
        survived = survives(sabotage)
        missed += survived
        print(f"NOT NOTICED by {sabotage.test}" if survived else "noticed", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
