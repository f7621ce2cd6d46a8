"""More than the system can take: every request gets one answer, and what was acknowledged stays."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.system.client import Client, Message, eventually
from tests.system.cluster import Cluster

pytestmark = [pytest.mark.timeout(240), pytest.mark.one_store]

WITHIN = 90.0
"""Seconds for what the system may take its time with: stores of tests can be slow."""


class Sender:
    """A device that sends without waiting for answers, and another one of the same user that watches."""

    def __init__(self, device: Client, watcher: Client, timer_id: str) -> None:
        self.device = device
        self.watcher = watcher
        self.timer_id = timer_id
        self.requests: list[Message] = []

    async def flood(self, count: int) -> None:
        """Sends so many updates; the name of each is its number."""
        for number in range(1, count + 1):
            timer = {"id": self.timer_id, "name": str(number), "totalDuration": "PT5M"}
            message = {"type": "timer", "action": "update", "messageId": str(number), "timer": timer}
            self.requests.append(message)
            await self.device.send(**message)

    async def repeat(self, requests: Sequence[Message]) -> None:
        """Sends requests again, as they were."""
        for message in requests:
            await self.device.send(**message)

    def answers(self) -> list[Message]:
        """All that came back so far."""
        return [message for message in self.device.received if "messageId" in message and "status" in message]

    def acknowledged(self) -> list[Message]:
        """Those that say that it was done."""
        return [message for message in self.answers() if message["status"] == "processed"]

    def refused(self) -> list[Message]:
        """Those that say that it was not."""
        return [message for message in self.answers() if message["status"] == "error"]

    def seen(self) -> Message:
        """The newest state the other device was told."""
        return max(
            (message["timer"] for message in self.watcher.received if message.get("action") == "update"),
            key=lambda timer: int(timer["version"]),
            default={"version": 0},
        )


async def senders(stack: AsyncExitStack, cluster: Cluster, unique: Callable[[str], str], count: int) -> list[Sender]:
    """So many people with two devices each."""
    made = []
    for number in range(count):
        user = unique(f"user{number}")
        device = await stack.enter_async_context(Client(cluster.edge_port, user, "phone"))
        watcher = await stack.enter_async_context(Client(cluster.edge_port, user, "tablet"))
        made.append(Sender(device, watcher, unique(f"timer{number}")))
    return made


def assert_one_answer_each(sender: Sender) -> None:
    """In the order of the requests, and nothing but done, or refused for now with a time to come back."""
    assert [answer["messageId"] for answer in sender.answers()] == [request["messageId"] for request in sender.requests]
    for refusal in sender.refused():
        assert refusal["code"] in (429, 503), refusal
        assert refusal["retryAfter"] > 0, refusal


async def assert_the_acknowledged_is_everywhere(cluster: Cluster, sender: Sender) -> None:
    """What is stored is what was acknowledged last, or what came after it (a refused one may have happened), and it reaches
    the other device.
    """
    last = sender.acknowledged()[-1]
    async with Client(cluster.edge_port, sender.device.user, "laptop") as fresh:
        (stored,) = [timer for timer in fresh.snapshot["timers"] if timer["id"] == sender.timer_id]
        assert stored["version"] >= last["version"]
        assert int(stored["name"]) >= int(last["messageId"])
    await eventually(lambda: sender.seen()["version"] >= stored["version"], WITHIN)
    assert sender.seen()["name"] == stored["name"]


async def test_a_flood_is_answered_whole_and_what_was_acknowledged_reaches_every_device(
    own_cluster: Callable[..., Any], unique: Callable[[str], str]
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    async with AsyncExitStack() as stack:
        people = await senders(stack, cluster, unique, 6)
        await asyncio.gather(*(sender.flood(150) for sender in people))
        await eventually(lambda: all(len(each.answers()) == 150 for each in people), WITHIN)
        for sender in people:
            assert_one_answer_each(sender)
            assert sender.acknowledged()
            await assert_the_acknowledged_is_everywhere(cluster, sender)


async def test_a_service_that_stands_still_is_no_silence_and_what_is_repeated_afterwards_is_done_once(
    own_cluster: Callable[..., Any], unique: Callable[[str], str]
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    timers = cluster.processes["timer"]
    count = 100
    async with AsyncExitStack() as stack:
        people = await senders(stack, cluster, unique, 20)
        timers.signal(signal.SIGSTOP)
        try:
            await asyncio.gather(*(sender.flood(count) for sender in people))
            # Nobody can do anything for them, and yet each is told so.
            await eventually(lambda: all(len(each.answers()) == count for each in people), WITHIN)
        finally:
            timers.signal(signal.SIGCONT)
        for sender in people:
            assert_one_answer_each(sender)
            assert len(sender.refused()) == count
        # With the same ids and contents, as soon as it is possible again: one after the other, as a client that obeys.
        for sender in people:
            for request in sender.requests[-3:]:
                while (await sender.device.expect_reply_within(WITHIN, **request))["status"] != "processed":
                    await asyncio.sleep(0.2)
        for sender in people:
            assert sender.acknowledged()[-1]["messageId"] == str(count)
            await assert_the_acknowledged_is_everywhere(cluster, sender)


async def test_refusals_are_spread_so_that_not_everybody_comes_back_at_once(
    own_cluster: Callable[..., Any], unique: Callable[[str], str]
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    timers = cluster.processes["timer"]
    async with AsyncExitStack() as stack:
        (sender,) = await senders(stack, cluster, unique, 1)
        timers.signal(signal.SIGSTOP)
        try:
            await sender.flood(20)
            await eventually(lambda: len(sender.refused()) == 20, WITHIN)
        finally:
            timers.signal(signal.SIGCONT)
        moments = {refusal["retryAfter"] for refusal in sender.refused()}
        assert len(moments) > 10
        assert 1 <= min(moments) < max(moments) <= 3
