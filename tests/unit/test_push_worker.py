"""`connection_service/push_worker.py` with a real store and a push service that does as it is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connection_service import push_worker
from connection_service.push_sender import LANES, Attempt, Message, Outcome
from connection_service.push_worker import Invitation, PushWorker
from connection_service.pushes import GIVE_UP_AFTER_US, MAX_WAITING, DeviceToken, Removal
from connection_service.store.sqlite import SqliteConnectionStore, open_store
from runtime.clock import now_us
from runtime.lifecycle import background
from tests.servicers.harness import until


class Sender:
    """Takes everything, unless told otherwise."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.attempts: list[Attempt] = []
        self.under_way = self.most_under_way = 0
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: Message) -> Attempt:
        self.sent.append(message)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.open.wait()
        self.under_way -= 1
        return self.attempts.pop(0) if self.attempts else Attempt(outcome=Outcome.ACCEPTED)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteConnectionStore]:
    async with open_store(tmp_path) as opened:
        yield opened


def invitation(timer: str = "tea", user: str = "bob", *, age_us: int = 0) -> Invitation:
    now = now_us()
    return Invitation(
        timer_id=timer, user_id=user, timer_name="Tea", sharer_id="alice", version=1,
        created_at_us=now - age_us, due_at_us=now,
    )  # fmt: skip


async def has_phone(store: SqliteConnectionStore, *users: str) -> None:
    tokens = [DeviceToken(token=f"token-{user}", user_id=user, device_id="phone") for user in users]
    await store.save_tokens(tokens, max_per_user=1)


async def test_a_push_is_sent_once_and_repeats_of_its_event_change_nothing(store: SqliteConnectionStore) -> None:
    sender = Sender()
    worker = PushWorker(store, sender, lambda _: False)
    await has_phone(store, "bob")
    async with background(worker.run()):
        for _ in range(3):
            assert await worker.keep({0: [invitation()], 1: [invitation(user="nobody")]}, {}) == set()
            await asyncio.sleep(0.05)
        await until(lambda: worker.waiting == 0)
    assert sender.sent == [Message(token="token-bob", timer_id="tea", timer_name="Tea", sharer_name="alice")]


async def test_no_more_are_under_way_than_there_are_lanes_and_all_are_sent(store: SqliteConnectionStore) -> None:
    sender = Sender()
    sender.open.clear()
    worker = PushWorker(store, sender, lambda _: False)
    users = [f"user-{number}" for number in range(3 * LANES)]
    await has_phone(store, *users)
    async with background(worker.run()):
        await worker.keep({0: [invitation(user=user) for user in users]}, {})
        await until(lambda: sender.under_way == LANES)
        await asyncio.sleep(0.05)
        assert len(sender.sent) == LANES
        sender.open.set()
        await until(lambda: worker.waiting == 0)
    assert {message.token for message in sender.sent} == {f"token-{user}" for user in users}
    assert sender.most_under_way <= LANES


async def test_when_too_many_wait_the_event_is_to_come_again(store: SqliteConnectionStore) -> None:
    worker = PushWorker(store, Sender(), lambda _: False)
    await has_phone(store, "bob")
    worker._waiting = MAX_WAITING
    assert await worker.keep({4: [invitation()], 5: [invitation(user="without-phone")]}, {}) == {4}
    assert await store.count_pushes() == 0


async def test_one_answer_to_wait_is_heard_by_all(store: SqliteConnectionStore) -> None:
    sender = Sender()
    sender.attempts = [Attempt(outcome=Outcome.FAILED, retry_after=1_000, reason="503")]
    worker = PushWorker(store, sender, lambda _: False)
    await has_phone(store, "bob", "carol")
    async with background(worker.run()):
        await worker.keep({0: [invitation()]}, {})
        await until(lambda: len(sender.sent) == 1 and sender.under_way == 0)
        await asyncio.sleep(0.05)
        await worker.keep({0: [invitation(user="carol")]}, {})
        await asyncio.sleep(0.1)
    assert len(sender.sent) == 1
    assert await store.count_pushes() == 2


async def test_what_is_too_old_or_needless_is_not_sent(store: SqliteConnectionStore) -> None:
    sender = Sender()
    here = {"dave"}
    worker = PushWorker(store, sender, lambda user: user in here)
    await has_phone(store, "bob", "carol", "dave")
    await worker.keep(
        {0: [invitation(age_us=GIVE_UP_AFTER_US + 1), invitation(user="carol"), invitation(user="dave")]}, {}
    )
    await store.save_tokens([DeviceToken(token="token-carol", user_id="erin", device_id="phone")], max_per_user=1)
    async with background(worker.run()):
        await until(lambda: worker.waiting == 0)
    assert sender.sent == []
    assert await store.count_pushes() == 0


async def test_who_was_removed_is_not_told(store: SqliteConnectionStore) -> None:
    sender = Sender()
    worker = PushWorker(store, sender, lambda _: False)
    await has_phone(store, "bob", "carol")
    await worker.keep({0: [invitation(), invitation(user="carol")]}, {})
    await worker.keep({}, {0: [Removal(timer_id="tea", user_id="bob", version=2)]})
    async with background(worker.run()):
        await until(lambda: len(sender.sent) == 1)
        await asyncio.sleep(0.05)
    assert [message.token for message in sender.sent] == ["token-carol"]


async def test_an_unregistered_token_is_forgotten_and_a_refused_one_is_not(store: SqliteConnectionStore) -> None:
    sender = Sender()
    sender.attempts = [Attempt(outcome=Outcome.UNREGISTERED), Attempt(outcome=Outcome.REFUSED, reason="400")]
    worker = PushWorker(store, sender, lambda _: False)
    await has_phone(store, "bob")
    async with background(worker.run()):
        await worker.keep({0: [invitation()]}, {})
        await until(lambda: worker.waiting == 0)
        assert await store.tokens_of_users(["bob"]) == []
        await has_phone(store, "bob")
        await worker.keep({0: [invitation("milk")]}, {})
        await until(lambda: worker.waiting == 0)
    assert len(await store.tokens_of_users(["bob"])) == 1


async def test_a_push_whose_sender_died_is_sent_by_another_when_its_claim_has_run_out(
    store: SqliteConnectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_worker, "CLAIM_US", 200_000)
    monkeypatch.setattr(push_worker, "POLL", 0.05)
    dies, lives = Sender(), Sender()
    dies.open.clear()
    await has_phone(store, "bob")
    worker = PushWorker(store, dies, lambda _: False)
    async with background(worker.run()):
        await worker.keep({0: [invitation()]}, {})
        await until(lambda: dies.under_way == 1)
    async with background(PushWorker(store, lives, lambda _: False).run()):
        await until(lambda: len(lives.sent) == 1)
        async with asyncio.timeout(5):  # that it was sent is noted a little later
            while await store.count_pushes():
                await asyncio.sleep(0.01)
