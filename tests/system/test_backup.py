"""docs/operations.md, "Back up and restore": a backup that is taken while people write is a system again."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.docs.pages import code_blocks
from tests.system.client import Client, Message, eventually
from tests.system.cluster import Cluster

pytestmark = pytest.mark.timeout(240)  # seconds; the system is started twice

AFTER_A_RESTORE = [block.text for block in code_blocks("docs/operations.md") if block.language == "sql"]
"""What the page says to run, for `timers.sqlite` and for `shares.sqlite`."""


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Cluster]:
    """A system on the files of a directory, for the length of the context."""
    cluster = Cluster(
        directory, {"BUBBLE_STORE": "sqlite", "BUBBLE_MESSAGES_PER_SECOND": "0", "BUBBLE_DRAIN_SECONDS": "1"}
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


def back_up(directory: Path, *names: str) -> None:
    """What `sqlite3 FILE ".backup COPY"` does, for one file after the other."""
    (directory / "backup").mkdir(exist_ok=True)
    for name in names:
        with (
            contextlib.closing(sqlite3.connect(directory / "data" / name)) as source,
            contextlib.closing(sqlite3.connect(directory / "backup" / name)) as copy,
        ):
            source.backup(copy, pages=1)


def restore(directory: Path) -> None:
    """Puts the copies into the place of the files, and makes their states newer than what anybody has seen."""
    shutil.rmtree(directory / "data")
    shutil.copytree(directory / "backup", directory / "data")
    assert len(AFTER_A_RESTORE) == 2
    for name, script in zip(("timers.sqlite", "shares.sqlite"), AFTER_A_RESTORE, strict=True):
        with contextlib.closing(sqlite3.connect(directory / "data" / name)) as connection, connection:
            connection.executescript(script)


async def create_and_share(alice: Client, bob: str, prefix: str) -> None:
    """Makes timers and shares them, again and again."""
    for number in itertools.count(1):
        timer_id = f"{prefix}-{number}"
        await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "made", "totalDuration": "PT5M"})
        await alice.done(type="share", action="add", timerId=timer_id, sharedWithUser=bob)


async def snapshot_of(port: int, user: str) -> dict[str, Message]:
    """The timers a user sees, by id."""
    async with Client(port, user, "another") as client:
        return {timer["id"]: timer for timer in client.snapshot["timers"]}


async def test_a_backup_taken_while_people_write_is_a_system_again(
    tmp_path: Path, unique: Callable[[str], str]
) -> None:
    alice, bob, mallory, old, prefix = (unique(name) for name in ("alice", "bob", "mallory", "old", "new"))
    async with running(tmp_path) as cluster, Client(cluster.edge_port, alice, "laptop") as laptop:
        await laptop.done(type="timer", action="update", timer={"id": old, "name": "before", "totalDuration": "PT5M"})
        await laptop.done(type="share", action="add", timerId=old, sharedWithUser=bob)
        writing = asyncio.create_task(create_and_share(laptop, bob, prefix))
        await eventually(lambda: len(laptop.received) > 40)
        await asyncio.to_thread(back_up, tmp_path, "timers.sqlite")
        position = len(laptop.received)
        await eventually(lambda: len(laptop.received) > position + 10)
        await asyncio.to_thread(back_up, tmp_path, "shares.sqlite")
        await eventually(lambda: len(laptop.received) > position + 20)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        # What is done after the backup is lost with it, but it was seen.
        await laptop.done(type="timer", action="update", timer={"id": old, "name": "after"})
        seen = await snapshot_of(cluster.edge_port, bob)
        assert seen[old]["name"] == "after"
    restore(tmp_path)
    async with running(tmp_path) as cluster:
        of_alice, of_bob = [await snapshot_of(cluster.edge_port, user) for user in (alice, bob)]
        assert of_bob == of_alice
        assert 20 <= len(of_bob) < len(seen)
        # Somebody who comes back with what was seen before takes the restored state for the newer one it is.
        async with Client(cluster.edge_port, bob, "phone", resume=True) as phone:
            known = {timer_id: timer["version"] for timer_id, timer in seen.items()}
            audiences = {timer_id: timer["shareVersion"] for timer_id, timer in seen.items()}
            synced = await phone.ask(type="sync", versions=known, shareVersions=audiences)
        assert {timer["id"]: timer["name"] for timer in synced["timers"]} == {
            timer_id: timer["name"] for timer_id, timer in of_bob.items()
        }
        for timer in synced["timers"]:
            assert timer["version"] > known[timer["id"]]
            assert timer["shareVersion"] > audiences[timer["id"]]
        assert set(synced["gone"]) == seen.keys() - of_bob.keys()
        # A share without its timer (its claim was in time for the second file only) still is its owner's ...
        lost = sorted(seen.keys() - of_bob.keys(), key=lambda timer_id: int(timer_id.rpartition("-")[2]))
        async with Client(cluster.edge_port, mallory, "phone") as stranger:
            for timer_id in (old, lost[0]):
                refused = await stranger.ask(type="timer", action="update", timer={"id": timer_id, "name": "mine"})
                assert refused["code"] == 403
        # ... who makes it again.
        async with (
            Client(cluster.edge_port, alice, "laptop") as laptop,
            Client(cluster.edge_port, bob, "phone") as phone,
        ):
            await laptop.done(type="timer", action="update", timer={"id": lost[0], "name": "again"})
            again = await phone.expect(lambda message: message.get("timer", {}).get("id") == lost[0])
            assert (again["type"], again["action"], again["timer"]["name"]) == ("share", "add", "again")
            await laptop.done(type="timer", action="start", timerId=old)
            assert "endTime" in await phone.update(old)


@pytest.mark.parametrize("text", AFTER_A_RESTORE)
def test_what_is_run_after_a_restore_is_whole(text: str) -> None:
    assert sqlite3.complete_statement(text)
