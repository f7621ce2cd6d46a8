"""Sends what is kept to be pushed, beside everything else: a bounded number at once, each until it is taken or given up."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from connection_service import metrics
from connection_service.push_sender import LANES, Message, Outcome, PushSender
from connection_service.pushes import (
    CLAIM_US,
    GIVE_UP_AFTER_US,
    KEPT_DONE_US,
    MAX_WAITING,
    DeviceToken,
    Push,
    Removal,
    next_attempt_us,
)
from connection_service.store.contract import PushStore
from runtime import logs
from runtime.clock import now_us
from runtime.errors import BubbleError, brief

log = logs.get(__name__)

POLL = 1.0
"""Seconds between two looks for pushes that are due: those of replicas that died, and those that are tried again."""

_UPKEEP = 30.0  # seconds between two rounds of counting and forgetting


class Invitation(Push, frozen=True, kw_only=True):
    """A push before it is known which tokens the user has: `token_id` is empty."""

    token_id: str = ""


class PushWorker:
    """The pushes of one replica. `is_connected` tells whether a user has a connection somewhere, as far as is known."""

    def __init__(self, store: PushStore, sender: PushSender, is_connected: Callable[[str], bool]) -> None:
        self._store = store
        self._sender = sender
        self._is_connected = is_connected
        self._under_way: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._waiting = 0
        self._paused_until = float("-inf")
        self._upkeep_at = float("-inf")

    @property
    def waiting(self) -> int:
        """How many pushes are kept and not finished: as of the last count, and what was added here since."""
        return self._waiting

    async def keep(
        self, invitations: Mapping[int, Sequence[Invitation]], removals: Mapping[int, Sequence[Removal]]
    ) -> set[int]:
        """Keeps pushes durably, by the numbers of the events they belong to, and forgets those for who was removed. Returns the
        numbers of those events that must come again, since too many pushes wait. Raises Unavailable.
        """
        if removals:
            # They are remembered: calls overtake each other, and the addition before the removal may come after it.
            await self._store.cancel_pushes([each for group in removals.values() for each in group], now_us())
        users = {each.user_id for group in invitations.values() for each in group}
        if not users:
            return set()
        tokens = await self._store.tokens_of_users(users)
        by_number = {number: _addressed(group, tokens) for number, group in invitations.items()}
        pushes = [push for group in by_number.values() for push in group]
        if not pushes:
            return set()
        if self._waiting + len(pushes) > MAX_WAITING:
            return {number for number, group in by_number.items() if group}
        self._waiting += await self._store.add_pushes(pushes)
        self._wake.set()
        return set()

    async def run(self) -> None:
        """Sends until cancelled. What was under way then is sent again by whoever looks when its claim has run out."""
        try:
            while True:
                try:
                    await self._look()
                except BubbleError as error:
                    log.warning("pushes can't be read", error=brief(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._wake.wait()
        finally:
            for task in self._under_way:
                task.cancel()

    async def _look(self) -> None:
        self._wake.clear()
        now = time.monotonic()
        if now - self._upkeep_at >= _UPKEEP:
            self._upkeep_at = now
            await self._store.forget_pushes(now_us() - KEPT_DONE_US)
            self._waiting = await self._store.count_pushes()
        free = LANES - len(self._under_way)
        if free <= 0 or now < self._paused_until:
            return
        pushes = await self._store.claim_pushes(now_us(), now_us() + CLAIM_US, free)
        if not pushes:
            return
        tokens = await self._store.load_tokens({push.token_id for push in pushes})
        for push in pushes:
            task = asyncio.create_task(self._push(push, tokens.get(push.token_id)), name="push")
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("push crashed", exc_info=task.exception())

    async def _push(self, push: Push, token: DeviceToken | None) -> None:
        try:
            outcome = await self._outcome(push, token)
        except BubbleError as error:  # of the store: the push comes again when the claim runs out
            log.warning("push not recorded", user_id=push.user_id, timer_id=push.timer_id, error=brief(error))
            return
        metrics.PUSHES.labels(outcome).inc()

    async def _outcome(self, push: Push, token: DeviceToken | None) -> str:
        """Tries once and records what came of it; returns that, as the metric names it."""
        if token is None or token.user_id != push.user_id or self._is_connected(push.user_id):
            return await self._finish(push, "needless")  # they see it, or have no such device any more
        if now_us() - push.created_at_us > GIVE_UP_AFTER_US:
            return await self._finish(push, "given_up")
        attempt = await self._sender.send(
            Message(token=token.token, timer_id=push.timer_id, timer_name=push.timer_name, sharer_name=push.sharer_id)
        )
        match attempt.outcome:
            case Outcome.ACCEPTED:
                metrics.PUSH_TOOK.observe(max(now_us() - push.created_at_us, 0) / 1_000_000)
            case Outcome.UNREGISTERED:
                await self._store.delete_tokens([token.token_id])
            case Outcome.REFUSED:
                log.warning("push refused", user_id=push.user_id, timer_id=push.timer_id, reason=attempt.reason)
            case Outcome.FAILED:
                return await self._again(push, attempt.retry_after, attempt.reason)
        return await self._finish(push, attempt.outcome.value)

    async def _again(self, push: Push, retry_after: float, reason: str) -> str:
        if retry_after:  # what it says of one, it means for all
            self._paused_until = max(self._paused_until, time.monotonic() + retry_after)
        log.warning("push failed", attempt=push.attempts, reason=reason, timer_id=push.timer_id)
        due_at_us = next_attempt_us(push, now_us(), retry_after)
        if due_at_us is None:
            return await self._finish(push, "given_up")
        await self._store.postpone_push(push.push_id, due_at_us)
        return "failed"

    async def _finish(self, push: Push, outcome: str) -> str:
        await self._store.finish_push(push.push_id, now_us())
        self._waiting = max(self._waiting - 1, 0)
        return outcome


def _addressed(invitations: Sequence[Invitation], tokens: Sequence[DeviceToken]) -> list[Push]:
    """A push for each device of those who are invited."""
    return [
        Push(
            timer_id=each.timer_id,
            user_id=each.user_id,
            token_id=token.token_id,
            timer_name=each.timer_name,
            sharer_id=each.sharer_id,
            version=each.version,
            created_at_us=each.created_at_us,
            due_at_us=each.due_at_us,
        )
        for each in invitations
        for token in tokens
        if token.user_id == each.user_id
    ]
