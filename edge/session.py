"""One socket's life: enter, read, answer, be delivered to, end."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import WSMsgType, web

from edge import errors
from edge.auth import Identity, Unauthorized
from edge.close_codes import CloseCode
from edge.codec.contract import Codec, DecodeError, Welcome
from edge.errors import ClientError
from edge.frames import PING, text_frame
from edge.knowledge import Knowledge, TimerState, TooMuchStaged, Verdict
from edge.limits import RateLimit
from edge.mailbox import Mailbox
from edge.presence import TooManyConnections
from edge.requests import Acknowledge, Authenticate, Ping, Request, Share, Sync, Write
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from runtime import logs
from runtime.clock import now_us
from runtime.errors import brief
from runtime.telemetry import Span

if TYPE_CHECKING:
    from edge.hub import Hub

log = logs.get(__name__)

MAX_OUTSTANDING = 64
"""Requests of one connection that may wait for their answers; no more are read meanwhile."""

SYNC_PATIENCE = 2.0
"""Seconds a client that said it would `sync` is waited for, before it gets everything."""

_CLOSE_PATIENCE = 2.0  # seconds a peer may take to answer a close frame
_WRITE_CHUNK = 64 * 1024  # bytes handed to a socket at once
_HIGH_WATER = 32 * 1024  # bytes a socket's own buffer may hold before it gets no more
_LINGER = 0.02  # seconds between two looks whether the last bytes have been taken
_ENTER_ATTEMPTS = 3


class _Reply:
    """A request's place in the order of replies. `frame` None: still under way; empty: no reply is due."""

    __slots__ = ("frame", "message_id", "span")

    def __init__(self, message_id: str | None, span: Span) -> None:
        self.frame: bytes | None = None
        self.message_id = message_id
        self.span = span


class Session:
    """The connection of one device."""

    def __init__(
        self,
        hub: "Hub",
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        codec: Codec,
        identity: Identity,
        device_id: str,
        *,
        resumes: bool,
    ) -> None:
        now = time.monotonic()
        self.user_id = identity.user_id
        self.device_id = device_id
        self.connection_id = ""
        self.is_open = True
        self.knowledge = Knowledge(identity.user_id)
        self._hub = hub
        self._socket = socket
        self._transport = transport
        self._codec = codec
        self._expires_at = identity.expires_at
        self._resumes = resumes
        self._mailbox = Mailbox()
        self._rate = RateLimit(hub.settings.messages_per_second, hub.settings.message_burst, now)
        self._replies: deque[_Reply] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._progress: asyncio.Event | None = None
        self._opened_at = self._heard_at = self._asked_at = self._pinged_at = now
        self._over_since: float | None = None
        self._dirty = False
        self._close_code: CloseCode | None = None
        self._closing: asyncio.Task[None] | None = None
        self._sequence = 0
        self._acks_due = 0
        self._snapshot_place = 0

    async def run(self) -> CloseCode:
        """Serves the connection until it ends, for whatever reason; returns that. The socket is closed afterwards."""
        self._hub.sessions.add(self)
        try:
            if await self._register():
                self._spawn(self._greet())
                await self._read()
        except Exception:
            log.exception("session crashed")
            self._close_code = self._close_code or CloseCode.INTERNAL
        finally:
            self.is_open = False
            self._hub.sessions.remove(self)
            self._hub.presence.close(self.connection_id)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._closing is None:
                self._closing = asyncio.create_task(self._close_socket())
            await self._closing
        return self._close_code or CloseCode.BYE

    # --- being delivered to -------------------------------------------------------------------------------------------

    def offer(self, state: TimerState) -> bool:
        """A timer's state that came with an event. False: it must be loaded and offered again."""
        try:
            verdict = self.knowledge.offer(state)
        except TooMuchStaged:
            self.give_up()
            return True
        if verdict is Verdict.SEND:
            self._send_state(state.timer_id, state.frame(self._codec))
        return verdict is not Verdict.LOAD

    def offer_loaded(self, state: TimerState) -> None:
        """A timer's state that was read for this session."""
        try:
            verdict = self.knowledge.offer_loaded(state)
        except TooMuchStaged:
            self.give_up()
            return
        if verdict in (Verdict.SEND, Verdict.SEND_AS_SHARE):
            frame = state.frame(self._codec, as_share=verdict is Verdict.SEND_AS_SHARE)
            self._send_state(state.timer_id, frame)

    def revoke(self, timer_id: str, audience_version: int, event_id: str, server_time_us: int) -> None:
        """The user may not see a timer any longer: nothing of it is sent from here on, and the client is told."""
        if not self.knowledge.revoke(timer_id, audience_version):
            return
        if self._snapshot_place in self._mailbox:
            # The timer is in a snapshot that has not been written yet. A client so slow starts anew.
            self._mailbox.clear()
            self.give_up()
            return
        message = self._codec.share_removed(timer_id, self.user_id, event_id, server_time_us)
        self._send_state(timer_id, text_frame(message))

    def announce_restart(self, after_ms: int) -> None:
        """The edge will close this connection so many milliseconds from now."""
        self._send(self._codec.reconnect(after_ms))

    def give_up(self) -> None:
        """The session can't be kept up to date; its client is to come again."""
        self.close_soon(CloseCode.UNAVAILABLE)

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """Writes what waits, as far as the socket takes it. False: something is left."""
        self._dirty = False
        if not self.is_open or self._transport.is_closing():
            return True
        if self._transport.get_write_buffer_size() > _HIGH_WATER:
            self._note_backlog()
            return False
        frames = self._mailbox.take(_WRITE_CHUNK)
        if frames:
            self._transport.write(b"".join(frames))
        self._note_backlog()
        return not self._mailbox

    def _send(self, message: bytes) -> None:
        self._mailbox.put(text_frame(message))
        self._write_soon()

    def _send_state(self, timer_id: str, frame: bytes) -> None:
        self._mailbox.put_state(timer_id, frame)
        self._acks_due += 1
        self._write_soon()

    def _write_soon(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._hub.sessions.write_soon(self)

    def _note_backlog(self) -> None:
        if self._mailbox.size <= self._hub.settings.backlog_bytes:
            self._over_since = None
            self._made_progress()
        elif self._over_since is None:
            self._over_since = time.monotonic()

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def overdue(self, now: float, wall_clock: float) -> CloseCode | None:
        """Why this connection is to be closed now, if it is."""
        settings = self._hub.settings
        if self._over_since is not None and now - self._over_since > settings.backlog_patience:
            return CloseCode.TOO_SLOW
        if now - self._heard_at > settings.ping_timeout:
            return CloseCode.HEARTBEAT_TIMEOUT
        if wall_clock >= self._expires_at:
            return CloseCode.TOKEN_EXPIRED
        if settings.idle_seconds and now - self._asked_at > settings.idle_seconds:
            return CloseCode.IDLE
        if settings.max_connection_seconds and now - self._opened_at > settings.max_connection_seconds:
            return CloseCode.TOO_OLD
        return None

    def ping_if_due(self, now: float) -> None:
        """Sends a WebSocket ping when it is time. A socket that takes no bytes gets none: it would only pile up."""
        due = now - self._pinged_at >= self._hub.settings.ping_interval
        if due and self.is_open and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self._pinged_at = now
            self._transport.write(PING)

    def close_soon(self, code: CloseCode) -> None:
        """Ends the session. The first reason counts."""
        if self._close_code is None and self.is_open:
            self._close_code = code
            self._closing = asyncio.create_task(self._close_socket())
            self._made_progress()

    async def _close_socket(self) -> None:
        """Says goodbye, and frees the socket whether the peer answers or not."""
        code = self._close_code or CloseCode.BYE
        try:
            if code is CloseCode.RESTARTING:
                await self._finish_replies()
            async with asyncio.timeout(_CLOSE_PATIENCE):
                if not self._transport.is_closing() and not self._socket.closed:
                    self.write()
                    await self._socket.close(code=code.code, message=code.reason.encode())
                while self._transport.get_write_buffer_size():
                    await asyncio.sleep(_LINGER)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            # A polite close waits for ever for a peer that reads nothing.
            self._transport.abort()
            self._mailbox.clear()

    async def _finish_replies(self) -> None:
        """Waits, not for long, until what is under way has been answered."""
        deadline = time.monotonic() + _CLOSE_PATIENCE
        while self._replies and time.monotonic() < deadline:
            await asyncio.sleep(_LINGER)

    # --- entering -----------------------------------------------------------------------------------------------------

    async def _register(self) -> bool:
        """Makes the connection known everywhere, before anything is read from it or shown to it."""
        try:
            await self._hub.presence.open(self.user_id, self.device_id, self._claim)
        except TooManyConnections:
            self._close_code = CloseCode.TOO_MANY_CONNECTIONS
        except Exception as error:
            self._log_unexpected(error, "can't register")
            self._close_code = CloseCode.UNAVAILABLE
        return self._close_code is None

    async def _greet(self) -> None:
        """Subscribe, then read: whatever is committed after the announcement comes as an event, the rest is in the
        snapshot.
        """
        settings = self._hub.settings
        welcome = Welcome(
            connection_id=self.connection_id,
            user_id=self.user_id,
            device_id=self.device_id,
            server_time_us=now_us(),
            token_expires_at_us=self._expires_at_us(),
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            messages_per_second=settings.messages_per_second,
            message_burst=settings.message_burst,
        )
        self._send(self._codec.connected(welcome))
        if self._resumes:
            await asyncio.sleep(SYNC_PATIENCE)
        if not self.knowledge.ready:
            for attempt in range(1, _ENTER_ATTEMPTS + 1):
                try:
                    snapshot = await self._snapshot(timer_pb2.SnapshotItem(user_id=self.user_id), None)
                except Exception as error:
                    self._log_unexpected(error, "no snapshot", attempt=attempt)
                else:
                    self._snapshot_place = self._mailbox.put(text_frame(snapshot))
                    self._write_soon()
                    return
            self.give_up()

    def _claim(self, connection_id: str) -> None:
        self.connection_id = connection_id
        self._hub.sessions.name(self)
        structlog.contextvars.bind_contextvars(connection_id=connection_id)

    async def _snapshot(self, item: timer_pb2.SnapshotItem, message_id: str | None) -> bytes:
        snapshot = await self._hub.backend.snapshot(item)
        views, staged = self.knowledge.snapshot(snapshot, snapshot.gone_timer_ids)
        message = self._codec.snapshot(views, list(snapshot.gone_timer_ids), message_id=message_id)
        for state in staged:
            asyncio.get_running_loop().call_soon(self._offer_again, state)
        return message

    def _offer_again(self, state: TimerState) -> None:
        if not self.offer(state):
            self._hub.delivery.load(state.timer_id, [self])

    def _expires_at_us(self) -> int:
        return 0 if self._expires_at == float("inf") else int(self._expires_at * 1_000_000)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            while len(self._replies) >= MAX_OUTSTANDING or self._over_since is not None:
                # Not reading is the one thing that slows a client down.
                if self._close_code is not None:
                    return
                self._progress = asyncio.Event()
                await self._progress.wait()
            message = await self._socket.receive()
            self._heard_at = time.monotonic()
            if message.type is WSMsgType.TEXT:
                self._asked_at = self._heard_at
                self._receive(message.data)
            elif message.type is WSMsgType.BINARY:
                self._asked_at = self._heard_at
                self._refuse(ClientError(400, "Binary messages are not supported"), None)
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                self._close_code = self._close_code or _close_code(message)
                return

    def _receive(self, data: bytes) -> None:
        request: Request | DecodeError
        try:
            request = self._codec.decode(data)
        except DecodeError as error:
            request = error
        if isinstance(request, Acknowledge) and self._acks_due > 0:
            self._acks_due -= 1  # we asked for it, so it does not count
            return
        try:
            wait = self._rate.check(self._heard_at)
        except PermissionError:
            self.close_soon(CloseCode.RATE_ABUSE)
            return
        if isinstance(request, Acknowledge):
            return
        if wait:
            refusal = ClientError(429, "Too many messages", retry_after_ms=max(round(wait * 1_000), 1))
            self._refuse(refusal, request.message_id)
            return
        if isinstance(request, DecodeError):
            self._refuse(request, request.message_id)
            return
        if time.time() >= self._expires_at and not isinstance(request, Authenticate):
            self._refuse(ClientError(401, "The token has expired"), request.message_id)
            self.close_soon(CloseCode.TOKEN_EXPIRED)
            return
        if isinstance(request, Write):
            self._write_timer(request)
        elif isinstance(request, Ping):
            reply = self._expect_reply(request.message_id)
            self._reply(reply, self._codec.pong(request.timestamp, now_us(), request.message_id))
        elif isinstance(request, Share):
            self._answer(request.message_id, lambda reply: self._share(request, reply), request.traceparent)
        elif isinstance(request, Sync):
            self._answer(request.message_id, lambda _: self._sync(request))
        else:
            self._answer(request.message_id, lambda _: self._authenticate(request))

    def _write_timer(self, request: Write) -> None:
        item = request.item
        reply = self._expect_reply(request.message_id, request.traceparent, item.WhichOneof("command") or "")
        self._sequence += 1
        item.operation_id = self._operation_id(request)  # of the item as the client sent it
        item.origin.CopyFrom(self._origin())
        item.traceparent = reply.span.traceparent
        try:
            future = self._hub.backend.write(item)
        except Exception as error:
            self._fail(reply, error, item.timer_id)
            return
        future.add_done_callback(lambda done: self._written(done, reply, request))

    def _written(self, future: asyncio.Future[timer_pb2.WriteResult], reply: _Reply, request: Write) -> None:
        timer_id, message_id = request.item.timer_id, request.message_id
        if future.cancelled():
            self._fail(reply, TimeoutError(), timer_id)
            return
        error = future.exception()
        if error is not None:
            self._fail(reply, error, timer_id)
            return
        result = future.result()
        if result.HasField("error"):
            current = result.current if result.HasField("current") else None
            self._fail(reply, errors.from_item(result.error), timer_id, current)
            return
        outcome = result.outcome
        view = outcome.view
        state = TimerState(view, f"{view.timer.version:x}.{timer_id}"[:64], now_us())
        must_see = self.knowledge.wrote(state, outcome.version, outcome.base_version, waiting=timer_id in self._mailbox)
        if request.with_timer:
            answer = self._codec.processed_with_timer(view, outcome.version, message_id)
        else:
            answer = self._codec.processed(timer_id, outcome.version, message_id)
        self._reply(reply, answer)
        if must_see:
            self._send_state(timer_id, state.frame(self._codec))

    async def _share(self, request: Share, reply: _Reply) -> bytes:
        item = sharing_pb2.ChangeItem(
            origin=self._origin(), timer_id=request.timer_id, traceparent=reply.span.traceparent
        )
        if request.add:
            item.add_user_id = request.user_id
        else:
            item.remove_user_id = request.user_id
        result = await self._hub.backend.change(item)
        if result.HasField("error"):
            raise errors.from_item(result.error)
        if not request.add and request.user_id == self.user_id:
            # Who leaves is not told of it by an event, being where it came from.
            self.knowledge.revoke(request.timer_id, result.audience.version)
            self._mailbox.drop(request.timer_id)
        current = await self._hub.backend.get(request.timer_id)
        view = current.view if current.HasField("view") else event_pb2.TimerView()
        view.timer.timer_id = request.timer_id
        view.audience.CopyFrom(result.audience)
        return self._codec.shared(view, request.message_id)

    async def _sync(self, request: Sync) -> bytes:
        item = timer_pb2.SnapshotItem(user_id=self.user_id)
        for timer_id, version in request.versions.items():
            item.known[timer_id].version = version
            if request.audience_versions is not None:
                item.known[timer_id].audience_version = request.audience_versions.get(timer_id, 0)
        return await self._snapshot(item, request.message_id)

    async def _authenticate(self, request: Authenticate) -> bytes:
        identity = await self._hub.verifier.verify(request.token)
        if identity.user_id != self.user_id:
            raise Unauthorized("The token is another user's")
        self._expires_at = identity.expires_at
        return self._codec.authenticated(self._expires_at_us(), request.message_id)

    def _origin(self) -> common_pb2.Origin:
        return common_pb2.Origin(user_id=self.user_id, device_id=self.device_id, connection_id=self.connection_id)

    def _operation_id(self, request: Write) -> str:
        """Names a command so that its repetition is recognised: by the client after a lost reply, with the same messageId and
        the same content from the same device, or by our own channel.
        """
        if request.message_id is None:
            return f"{self.connection_id}:{self._sequence}"
        device = self.connection_id if self.device_id == "unknown" else f"{self.user_id}\n{self.device_id}"
        content = request.item.SerializeToString(deterministic=True)
        digest = hashlib.blake2b(f"{device}\n{request.message_id}\n".encode(), digest_size=12)
        digest.update(content)
        return digest.hexdigest()

    # --- replies, in the order of the requests ------------------------------------------------------------------------

    def _expect_reply(self, message_id: str | None, traceparent: str = "", action: str = "") -> _Reply:
        telemetry = self._hub.telemetry
        span = telemetry.begin("ws.receive", client_parent=traceparent, attributes={"bubble.action": action})
        reply = _Reply(message_id, span)
        self._replies.append(reply)
        return reply

    def _reply(self, reply: _Reply, message: bytes) -> None:
        reply.span.end()
        reply.frame = text_frame(message)
        while self._replies and (frame := self._replies[0].frame) is not None:
            self._replies.popleft()
            self._mailbox.put(frame)
        self._write_soon()
        self._made_progress()

    def _refuse(self, error: ClientError, message_id: str | None) -> None:
        self._reply(self._expect_reply(message_id), self._codec.error(error, message_id))

    def _fail(
        self,
        reply: _Reply,
        error: BaseException,
        timer_id: str = "",
        current: event_pb2.TimerView | None = None,
    ) -> None:
        self._log_unexpected(error, "request failed")
        refusal = errors.from_exception(error)
        reply.span.fail(refusal.message)
        trace_id = reply.span.traceparent[3:35]
        self._reply(
            reply,
            self._codec.error(refusal, reply.message_id, timer_id=timer_id, current=current, trace_id=trace_id),
        )

    def _answer(
        self, message_id: str | None, work: Callable[[_Reply], Awaitable[bytes]], traceparent: str = ""
    ) -> None:
        """Answers a request with what a coroutine returns or raises."""
        reply = self._expect_reply(message_id, traceparent)

        async def answer() -> None:
            try:
                message = await work(reply)
            except Exception as error:
                self._fail(reply, error)
            else:
                self._reply(reply, message)

        self._spawn(answer())

    def _made_progress(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _log_unexpected(self, error: BaseException, event: str, **fields: object) -> None:
        if not errors.is_expected(error):
            log.error(event, exc_info=error, **fields)
        elif errors.from_exception(error).code == 503:
            log.warning(event, error=brief(error), **fields)


def _close_code(message: Any) -> CloseCode:
    """Why the socket ended, from aiohttp's last message."""
    if message.type is WSMsgType.ERROR:
        code = getattr(message.data, "code", None)
        return CloseCode.TOO_BIG if code == CloseCode.TOO_BIG.code else CloseCode.PROTOCOL_ERROR
    return CloseCode.BYE
