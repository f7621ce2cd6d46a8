"""What a client asks, and what it is answered."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from edge import errors, metrics
from edge.auth import Unauthorized
from edge.close_codes import CloseCode
from edge.codec.contract import Codec, DecodeError
from edge.errors import ClientError
from edge.frames import text_frame
from edge.knowledge import TimerState
from edge.limits import RateLimit
from edge.replies import Replies, Reply
from edge.requests import Acknowledge, Authenticate, Ping, Request, Share, Sync, Write
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from runtime import logs, semconv
from runtime.clock import now_us
from runtime.errors import brief
from runtime.event_id import event_id
from runtime.telemetry import NO_SPAN, trace_id, unrecorded

if TYPE_CHECKING:
    from edge.hub import Hub
    from edge.session import Session

log = logs.get(__name__)

MAX_OUTSTANDING = 64
"""Requests of one connection that may wait for their answers; no more are read meanwhile."""

_LINGER = 0.02  # seconds between two looks whether everything is answered


class Conversation:
    """The requests of one connection, answered in their order."""

    __slots__ = (
        "_codec", "_followed", "_hub", "_last_of", "_last_timers", "_rate", "_received_at", "_replies",
        "_sequence", "_session", "_size", "_syncing",
    )  # fmt: skip

    def __init__(self, session: "Session", hub: "Hub", codec: Codec) -> None:
        self._session = session
        self._hub = hub
        self._codec = codec
        settings = hub.settings
        self._rate = RateLimit(settings.messages_per_second, settings.message_burst, time.monotonic())
        self._replies = Replies(self._emit)
        self._last_timers = 0
        """The place of the last answer with timers; those before it are written before it."""
        self._syncing = False
        self._sequence = 0
        self._last_of: dict[str, asyncio.Future[Any]] = {}
        """Of each timer, what was asked for it last, while that is under way: a command, or a task that goes through in its turn."""
        self._followed = hub.tracing.follows(session.user_id, session.device_id)
        self._received_at = 0.0
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether so many requests are under way that no more are to be read."""
        return len(self._replies) >= MAX_OUTSTANDING

    async def finish(self, patience: float) -> None:
        """Waits, so many seconds at most, until everything asked has been answered."""
        deadline = time.monotonic() + patience
        while self._replies and time.monotonic() < deadline:
            await asyncio.sleep(_LINGER)

    def snapshot_waits(self) -> bool:
        """Whether an answer with timers has not been written yet."""
        return self._session.outlet.waits(self._last_timers) or self._replies.any_has_timers()

    def receive(self, data: bytes, now: float) -> None:
        """One message of the client. `now` by the monotonic clock."""
        request: Request | DecodeError
        self._received_at = now
        self._size = len(data)
        try:
            request = self._codec.decode(data)
        except DecodeError as error:
            request = error
        self._take(request, now)

    def _take(self, request: "Request | DecodeError", now: float) -> None:
        session = self._session
        if isinstance(request, Acknowledge) and session.acks_due > 0:
            session.acks_due -= 1  # we asked for it, so it does not count
            metrics.acknowledged(request.message_id)
            if session.traced is not None and request.message_id is not None:
                session.traced.acknowledged(request.message_id, request.traceparent)
            return
        if not self.admits(now, None if isinstance(request, Acknowledge) else request):
            return
        if isinstance(request, Acknowledge):
            return
        if isinstance(request, DecodeError):
            self.refuse(request, request)
        elif time.time() >= session.expires_at and not isinstance(request, Authenticate):
            self.refuse(ClientError(401, "The token has expired"), request)
            session.close_soon(CloseCode.TOKEN_EXPIRED)
        elif self._hub.pulse.skipped(now) and isinstance(request, Write | Share):
            # It may have waited in the socket while this edge was stopped, and its sender may have gone on elsewhere.
            self.refuse(ClientError(503, "The edge was stopped for a while", retry_after_ms=1_000), request)
        else:
            self._handle(request)

    def receive_binary(self, now: float) -> None:
        """One binary message."""
        error = DecodeError(400, "Binary messages are not supported")
        self._received_at = now
        if self.admits(now, error):
            self.refuse(error, error)

    def admits(self, now: float, request: "Request | DecodeError | None" = None) -> bool:
        """Whether the rate of the connection's frames is within its limit. If not, the request (if any) is refused, or the
        connection ended.
        """
        try:
            wait = self._rate.check(now)
        except PermissionError:
            self._session.close_soon(CloseCode.RATE_ABUSE)
            return False
        if wait and request is not None:
            self.refuse(errors.too_many("messages", wait), request)
        return not wait

    def refuse(self, error: ClientError, request: "Request | DecodeError") -> None:
        """Answers a message with an error."""
        reply = self._replies.expect(
            request.message_id, request.kind, self._received_at, traceparent=request.traceparent
        )
        self._fail(reply, error)

    def _handle(self, request: Request) -> None:
        if isinstance(request, Write):
            self._write(request)
        elif isinstance(request, Ping):
            answered_us = now_us()
            received_us = answered_us - round((time.monotonic() - self._received_at) * 1_000_000)
            pong = self._codec.pong(request.timestamp, received_us, answered_us, request.message_id)
            self._answer(self._replies.expect(request.message_id, request.kind, self._received_at), pong)
        elif isinstance(request, Share):
            reply = self._begin(request, request.timer_id)
            work = partial(self._share, request, reply)
            self._in_turn(request.timer_id, partial(self._answered, reply, work, request.timer_id))
        elif isinstance(request, Sync):
            if self._syncing or self.snapshot_waits():
                # A snapshot may be large: one at a time.
                self.refuse(ClientError(429, "One sync at a time", retry_after_ms=1_000), request)
                return
            self._syncing = True
            reply = self._begin(request)
            self._answer_with(reply, partial(self._sync, request, reply), has_timers=True)
        elif isinstance(request, Authenticate):
            self._answer_with(self._begin(request), partial(self._authenticate, request))

    # --- what takes a call ----------------------------------------------------------------------------------------------

    def _write(self, request: Write) -> None:
        timer_id = request.item.timer_id
        reply = self._begin(request, timer_id)
        if isinstance(self._last_of.get(timer_id), asyncio.Task):
            # Who takes somebody away and goes on at once does not mean to show that.
            self._in_turn(timer_id, partial(self._written_in_turn, request, reply))
        else:
            future = self._submit(request, reply)
            if future is not None:
                self._last_of[timer_id] = future

    def _in_turn(self, timer_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Does something when all that was asked for the timer before is done; what is asked from here on waits for it."""
        before = self._last_of.get(timer_id)

        async def turn() -> None:
            try:
                if before is not None:  # perhaps the one that makes the timer
                    await asyncio.wait([before])
                await work()
            finally:
                if self._last_of.get(timer_id) is task:
                    del self._last_of[timer_id]

        task = self._last_of[timer_id] = self._session.spawn(turn())

    async def _written_in_turn(self, request: Write, reply: Reply) -> None:
        future = self._submit(request, reply)
        if future is not None:
            await asyncio.wait([future])

    def _submit(self, request: Write, reply: Reply) -> asyncio.Future[timer_pb2.WriteResult] | None:
        """Has a command carried out; None when it was refused at once, and answered."""
        item = request.item
        try:
            place = self._hub.backend.admit_write(item.timer_id)  # first: under overload, refusing must be cheap
            item.operation_id = self._operation_id(request.message_id, item)  # of the item as the client sent it
            self._fill_origin(item.origin)
            item.traceparent = reply.traceparent
            future = self._hub.backend.write(item, place)
        except Exception as error:
            self._fail(reply, error, item.timer_id)
            return None
        future.add_done_callback(lambda done: self._written(done, reply, request))
        return future

    def _written(self, future: asyncio.Future[timer_pb2.WriteResult], reply: Reply, request: Write) -> None:
        timer_id = request.item.timer_id
        if self._last_of.get(timer_id) is future:
            del self._last_of[timer_id]
        error = TimeoutError() if future.cancelled() else future.exception()
        if error is None:
            try:
                self._conclude(future.result(), reply, request)
            except Exception as unexpected:  # or its place in the order would hold up all later answers for good
                error = unexpected
        if error is not None:
            self._fail(reply, error, timer_id)

    def _conclude(self, result: timer_pb2.WriteResult, reply: Reply, request: Write) -> None:
        """Answers a command whose result is there."""
        timer_id, message_id = request.item.timer_id, request.message_id
        if result.HasField("error"):
            is_shown = result.HasField("current") and not self._session.knowledge.is_revoked(timer_id)
            current = result.current if is_shown else None
            self._fail(reply, errors.from_item(result.error), timer_id, current)
            return
        outcome, session = result.outcome, self._session
        if reply.span.recorded:
            reply.span.set({semconv.VERSION: outcome.version})
        name = event_id(timer_id, outcome.view.timer.version)
        state = TimerState(outcome.view, name, now_us(), reply.span.traceparent)
        must_see = session.knowledge.wrote(
            state, outcome.version, outcome.base_version, waiting=session.is_unread(timer_id)
        )
        if request.with_timer and not session.knowledge.is_revoked(timer_id):
            answer = self._codec.processed_with_timer(outcome.view, outcome.version, message_id)
        else:
            answer = self._codec.processed(timer_id, outcome.version, message_id)
        frame = state.frame(self._codec) if must_see else None
        self._answer(reply, answer, has_timers=request.with_timer)
        if frame is not None:
            session.send_state(state, frame)

    async def _share(self, request: Share, reply: Reply) -> bytes:
        item = sharing_pb2.ChangeItem(timer_id=request.timer_id)
        if request.add:
            item.add_user_id = request.user_id
        else:
            item.remove_user_id = request.user_id
        item.operation_id = self._operation_id(request.message_id, item)
        self._fill_origin(item.origin)
        item.traceparent = reply.traceparent
        with self._hub.tracing.telemetry.span(semconv.WS_LOAD, reply.traceparent) as span:
            current = await self._hub.backend.get(request.timer_id)
            if span.recorded:
                span.set({semconv.TIMER_ID: request.timer_id, semconv.VERSION: current.view.timer.version})
        item.timer_name = current.view.timer.name  # for who is told by push; not a part of what is asked
        result = await self._hub.backend.change(item)
        if result.HasField("error"):
            raise errors.from_item(result.error)
        audience, user_id = result.audience, self._session.user_id
        if reply.span.recorded:
            reply.span.set({semconv.SHARE_VERSION: audience.version})
        if user_id == audience.owner_id or user_id in audience.member_ids:
            self._session.knowledge.told_audience(request.timer_id, audience.version)
            view = current.view if current.HasField("view") else event_pb2.TimerView()
            view.audience.CopyFrom(audience)
        else:
            # Who leaves is not told of it by an event, being where it came from. Nor of what the others do from then on: it may
            # ask again.
            self._session.forget(request.timer_id, audience.version)
            view = event_pb2.TimerView(audience=event_pb2.Audience(version=audience.version))
        view.timer.timer_id = request.timer_id
        return self._codec.shared(view, request.message_id)

    async def _sync(self, request: Sync, reply: Reply) -> bytes:
        # What is delivered while it waits for its turn would be overtaken by what was read before.
        while not self._replies.is_next(reply):
            await asyncio.sleep(_LINGER)
        item = timer_pb2.SnapshotItem(user_id=self._session.user_id)
        for timer_id, version in request.versions.items():
            item.known[timer_id].version = version
            if request.audience_versions is not None:
                item.known[timer_id].audience_version = request.audience_versions.get(timer_id, 0)
        try:
            return await self._session.snapshot(item, request.message_id)
        finally:
            self._syncing = False

    async def _authenticate(self, request: Authenticate) -> bytes:
        identity = await self._hub.verifier.verify(request.token)
        if identity.user_id != self._session.user_id:
            raise Unauthorized("The token is another user's")
        self._session.expires_at = identity.expires_at
        return self._codec.authenticated(self._session.expires_at_us, request.message_id)

    def _fill_origin(self, origin: common_pb2.Origin) -> None:
        session = self._session
        origin.user_id, origin.device_id = session.user_id, session.device_id
        origin.connection_id = session.connection_id

    def _operation_id(self, message_id: str | None, item: timer_pb2.WriteItem | sharing_pb2.ChangeItem) -> str:
        """Names a command so that its repetition is recognised: by the client after a lost reply, with the same messageId and
        the same content from the same device, or by our own channel. `item` as the client sent it.
        """
        session = self._session
        if message_id is None:
            self._sequence += 1
            return f"{session.connection_id}:{self._sequence}"
        device = session.connection_id if session.device_id == "unknown" else f"{session.user_id}\n{session.device_id}"
        digest = hashlib.blake2b(f"{device}\n{message_id}\n".encode(), digest_size=12)
        digest.update(item.SerializeToString(deterministic=True))
        return digest.hexdigest()

    # --- replies --------------------------------------------------------------------------------------------------------

    def _begin(self, request: Write | Share | Sync | Authenticate, timer_id: str = "") -> Reply:
        """A place for the answer of a request that takes a call, and the beginning of its trace, if it is to have one."""
        tracing, client_parent, kind = self._hub.tracing, request.traceparent, request.kind
        if self._followed or tracing.wants(client_parent):
            attributes = self._attributes(request.message_id, kind, timer_id) | {semconv.MESSAGE_SIZE: self._size}
            span = tracing.telemetry.begin(semconv.WS_RECEIVE, client_parent=client_parent, attributes=attributes)
            traceparent = span.traceparent
        else:
            span, traceparent = NO_SPAN, unrecorded(client_parent)
        return self._replies.expect(request.message_id, kind, self._received_at, span, traceparent)

    def _attributes(self, message_id: str | None, kind: str, timer_id: str) -> dict[str, semconv.Value]:
        session = self._session
        attributes: dict[str, semconv.Value] = {
            semconv.ACTION: kind,
            semconv.USER_ID: session.user_id,
            semconv.DEVICE_ID: session.device_id,
            semconv.CONNECTION_ID: session.connection_id,
            semconv.EDGE_ID: self._hub.presence.edge_id,
        }
        if message_id is not None:
            attributes[semconv.MESSAGE_ID] = message_id
        if timer_id:
            attributes[semconv.TIMER_ID] = timer_id
        return attributes

    def _answer(self, reply: Reply, message: bytes, *, has_timers: bool = False, outcome: str = "processed") -> None:
        metrics.MESSAGES.labels(reply.kind, outcome).observe(time.monotonic() - reply.received_at)
        self._replies.answer(reply, text_frame(message), has_timers=has_timers)

    def _answer_with(self, reply: Reply, work: Callable[[], Awaitable[bytes]], *, has_timers: bool = False) -> None:
        """Answers a request with what a coroutine returns or raises. It is made when it begins: the session may end before."""
        self._session.spawn(self._answered(reply, work, has_timers=has_timers))

    async def _answered(
        self, reply: Reply, work: Callable[[], Awaitable[bytes]], timer_id: str = "", *, has_timers: bool = False
    ) -> None:
        try:
            message = await work()
        except Exception as error:
            self._fail(reply, error, timer_id)
        else:
            self._answer(reply, message, has_timers=has_timers)

    def _emit(self, reply: Reply, frame: bytes) -> None:
        place = self._session.outlet.send(frame)
        if reply.has_timers:
            self._last_timers = place
        self._session.wake()

    def _fail(
        self, reply: Reply, error: BaseException, timer_id: str = "", current: event_pb2.TimerView | None = None
    ) -> None:
        refusal = errors.from_exception(error)
        if reply.span.recorded:
            reply.span.fail(str(refusal.code), refusal.message)
            traceparent = reply.traceparent
        else:
            traceparent = self._hub.tracing.refused(
                semconv.WS_RECEIVE,
                refusal,
                reply.traceparent,
                lambda: self._attributes(reply.message_id, reply.kind, timer_id),
                waited=time.monotonic() - reply.received_at,
            )
        log_unexpected(error, "request failed", **logs.about(traceparent))
        message = self._codec.error(
            refusal, reply.message_id, timer_id=timer_id, current=current, trace_id=trace_id(traceparent)
        )
        self._answer(reply, message, has_timers=current is not None, outcome=str(refusal.code))


def log_unexpected(error: BaseException, event: str, **fields: object) -> None:
    """Logs an error unless it is one that clients cause."""
    refusal = errors.from_exception(error)
    if refusal.code == 500:
        log.error(event, exc_info=error, **fields)
    elif refusal.code == 503:
        log.warning(event, error=brief(error), **fields)
