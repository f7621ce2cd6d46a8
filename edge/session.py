"""One socket's life: register, greet, read, be delivered to, end."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import WSMsgType, web

from edge.auth import Identity
from edge.close_codes import CloseCode
from edge.codec.contract import Codec, Welcome
from edge.conversation import Conversation, log_unexpected
from edge.frames import text_frame
from edge.knowledge import Fresh, Knowledge, TimerState, TooMuchStaged, Verdict
from edge.outlet import Outlet
from edge.presence import TooManyConnections
from edge.traced import TracedDeliveries, TracedState
from proto.timer.v1 import timer_pb2
from runtime import logs, semconv
from runtime.clock import now_us

if TYPE_CHECKING:
    from edge.hub import Hub

log = logs.get(__name__)

SYNC_PATIENCE = 2.0
"""Seconds a client that said it would `sync` is waited for, before it gets everything."""

_CLOSE_PATIENCE = 2.0  # seconds a peer may take to answer a close frame
_SNAPSHOT_ATTEMPTS = 3


class Session:
    """The connection of one device."""

    # There are thousands of these, mostly idle: 20 KB each is the budget, sockets and all.
    __slots__ = (
        "_asked_at", "_close_code", "_closing", "_codec", "_conversation", "_first_snapshot_place", "_got_snapshot",
        "_greeted", "_heard_at", "_hub", "_opened_at", "_pinged_at", "_progress", "_read_out", "_reading",
        "_said_goodbye", "_snapshots", "_socket", "_tasks", "acks_due", "connection_id", "device_id", "expires_at", "is_open",
        "knowledge", "outlet", "traced", "user_id",
    )  # fmt: skip

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
        self.user_id = identity.user_id
        self.device_id = device_id
        self.connection_id = ""
        self.expires_at = identity.expires_at
        self.is_open = True
        self.knowledge = Knowledge(identity.user_id)
        self.outlet = Outlet(transport, backlog_bytes=hub.settings.backlog_bytes, write_soon=hub.sessions.write_soon)
        self.outlet.on_relief = self.wake
        self.acks_due = 0
        """States that were sent and not acknowledged."""
        self.traced: TracedDeliveries | None = None
        """Those of them that belong to traces. None until there is one, as most connections never have any."""
        self._hub = hub
        self._socket = socket
        self._codec = codec
        self._conversation = self._converse(codec)
        self._snapshots = asyncio.Lock()
        self._greeted = False
        self._got_snapshot = asyncio.Event() if resumes else None
        self._first_snapshot_place = 0
        self._tasks: list[asyncio.Task[None]] = []  # few, and a quarter of an empty set
        self._progress: asyncio.Event | None = None
        self._opened_at = self._heard_at = self._asked_at = self._pinged_at = time.monotonic()
        self._close_code: CloseCode | None = None
        self._closing: asyncio.Task[None] | None = None
        self._read_out: asyncio.Future[None] | None = None
        self._reading = True
        self._said_goodbye = False

    async def run(self) -> CloseCode:
        """Serves the connection until it ends, for whatever reason; returns that. The socket is free afterwards."""
        self._hub.sessions.add(self)
        try:
            if await self._register():
                self.spawn(self._greet())
            await self._read()
        except ConnectionError:
            pass  # the peer was gone when it was answered
        except Exception:
            log.exception("session crashed")
            self._close_code = self._close_code or CloseCode.INTERNAL
        finally:
            self._reading = False
            if self._read_out is not None:
                self._read_out.set_result(None)
            self.is_open = False
            if self.traced is not None:
                self.traced.close()
            self._hub.sessions.remove(self)
            self._hub.presence.close(self.connection_id)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._closing is None:
                self._closing = asyncio.create_task(self._close_socket())
            await self._closing
        return self._close_code or CloseCode.BYE

    def close_soon(self, code: CloseCode) -> None:
        """Ends the session. The first reason counts."""
        if self._close_code is None and self.is_open:
            self._close_code = code
            over = self.outlet.over_since
            log.debug(
                "closing",
                connection_id=self.connection_id,
                close_code=code.code,
                seconds=None if over is None else round(time.monotonic() - over, 2),
            )
            self._closing = asyncio.create_task(self._close_socket())
            self.wake()

    def lose(self, code: CloseCode) -> None:
        """The edge has lost touch with the others, and ends all its sessions."""
        self.close_soon(code)

    def give_up(self) -> None:
        """The session can't be kept up to date; its client is to come again."""
        self.close_soon(CloseCode.UNAVAILABLE)

    @property
    def is_supersedable(self) -> bool:
        """Whether the next connection of its device takes its place. A browser may have several windows."""
        return False

    def supersede(self) -> None:
        """The device has another connection now."""
        self.close_soon(CloseCode.SUPERSEDED)

    def announce_restart(self, after_ms: int) -> None:
        """The edge will close this connection so many milliseconds from now."""
        self.outlet.send(text_frame(self._codec.reconnect(after_ms)))

    def _converse(self, codec: Codec) -> Conversation:
        return Conversation(self, self._hub, codec)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside, until the session ends."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)
        return task

    def wake(self) -> None:
        """Something that reading may have waited for has changed."""
        if self._progress is not None:
            self._progress.set()
            self._progress = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("session crashed", exc_info=error)
            self.close_soon(CloseCode.INTERNAL)

    @property
    def expires_at_us(self) -> int:
        """When the token expires, in microseconds since 1970; 0: never."""
        return 0 if self.expires_at == float("inf") else int(self.expires_at * 1_000_000)

    # --- being delivered to -------------------------------------------------------------------------------------------

    def offer(self, state: TimerState) -> Verdict:
        """A timer's state that came with an event; it is sent when the verdict says so. LOAD: it must be loaded and
        offered again. Else it was dealt with.
        """
        try:
            verdict = self.knowledge.offer(state)
        except TooMuchStaged:
            self.give_up()
            return Verdict.SKIP
        if verdict is Verdict.SEND:
            self.send_state(state, state.frame(self._codec))
        return verdict

    def offer_loaded(self, state: TimerState) -> Verdict:
        """A timer's state that was read for this session; returns what was done with it. LOAD: it must be read again."""
        try:
            verdict = self.knowledge.offer_loaded(state)
        except TooMuchStaged:
            self.give_up()
            return Verdict.SKIP
        if verdict in (Verdict.SEND, Verdict.SEND_AS_SHARE):
            frame = state.frame(self._codec, as_share=verdict is Verdict.SEND_AS_SHARE)
            self.send_state(state, frame)
        return verdict

    def revoke(
        self, timer_id: str, audience_version: int, event_id: str, server_time_us: int, traceparent: str
    ) -> bool:
        """The user may not see a timer any longer: nothing of it is sent from here on, and the client is told (True),
        unless it had not been told of the timer, or is told of this already.
        """
        if not self.forget(timer_id, audience_version):
            return False
        message = self._codec.share_removed(timer_id, self.user_id, event_id, server_time_us, traceparent=traceparent)
        frame = text_frame(message)
        if traceparent:
            self._trace_state(TracedState(timer_id, event_id, traceparent, 0, audience_version, len(frame)))
        self.outlet.send_state(timer_id, frame)
        self.acks_due += 1
        return True

    def forget(self, timer_id: str, audience_version: int) -> bool:
        """The same without a word to the client. False: it had not been told of the timer, or is told of this already."""
        if not self.knowledge.revoke(timer_id, audience_version):
            return False
        self.outlet.drop_state(timer_id)
        if self.traced is not None:
            self.traced.withdrawn(timer_id)
        if self.outlet.waits(self._first_snapshot_place) or self._conversation.snapshot_waits():
            # The timer may be in a snapshot that has not been written yet. A client so slow starts anew.
            self.outlet.abandon()
            self.give_up()
            return False
        return True

    def is_unread(self, timer_id: str) -> bool:
        """Whether the client has not been written a state of the timer that it is to have."""
        return self.outlet.waits(timer_id)

    def send_state(self, state: TimerState, frame: bytes) -> None:
        """Sends a timer's state, made into a frame; an older one that waits is not sent any more."""
        if state.traceparent:
            about = (state.traceparent, state.version, state.audience_version, len(frame))
            self._trace_state(TracedState(state.timer_id, state.event_id, *about))
        elif self.traced is not None:
            self.traced.superseded(state.timer_id)
        self.outlet.send_state(state.timer_id, frame)
        self.acks_due += 1

    def _trace_state(self, state: TracedState) -> None:
        if self.traced is None:
            self.traced = self._trace()
        self.traced.put(state)

    def _trace(self) -> TracedDeliveries:
        about = {
            semconv.USER_ID: self.user_id,
            semconv.DEVICE_ID: self.device_id,
            semconv.CONNECTION_ID: self.connection_id,
            semconv.EDGE_ID: self._hub.presence.edge_id,
        }
        traced = TracedDeliveries(self._hub.tracing.telemetry, about, self.outlet.waits)
        self.outlet.on_written = traced.written
        return traced

    # --- entering -----------------------------------------------------------------------------------------------------

    async def _register(self) -> bool:
        """Makes the connection known everywhere, before anything is read from it or shown to it."""
        try:
            await self._hub.presence.open(self.user_id, self.device_id, self._claim, supersedable=self.is_supersedable)
        except TooManyConnections:
            self.close_soon(CloseCode.TOO_MANY_CONNECTIONS)
        except ConnectionError:
            pass  # the end of the socket is what is read next
        except Exception as error:
            log_unexpected(error, "can't register")
            self.close_soon(CloseCode.UNAVAILABLE)
        else:
            return True
        return False

    def _claim(self, connection_id: str) -> None:
        if self.outlet.is_cut or self._closing is not None:
            # Registering took long, and the client may have come again elsewhere: this one must not pass for the newer.
            raise ConnectionError("The client is gone")
        self.connection_id = connection_id
        self._hub.sessions.name(self)
        structlog.contextvars.bind_contextvars(connection_id=connection_id)

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
            token_expires_at_us=self.expires_at_us,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            messages_per_second=settings.messages_per_second,
            message_burst=settings.message_burst,
        )
        self.outlet.send(text_frame(self._codec.connected(welcome)))
        if self._got_snapshot is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_PATIENCE):
                    await self._got_snapshot.wait()
        for attempt in range(1, _SNAPSHOT_ATTEMPTS + 1):
            if self._greeted:
                return
            try:
                snapshot = await self.snapshot(self._what_to_greet_with(), None)
            except Exception as error:
                log_unexpected(error, "no snapshot", attempt=attempt)
            else:
                self._first_snapshot_place = self.outlet.send(text_frame(snapshot))
                self._snapshot_sent()
                return
        self.give_up()

    def _what_to_greet_with(self) -> timer_pb2.SnapshotItem:
        return timer_pb2.SnapshotItem(user_id=self.user_id)

    def _snapshot_sent(self) -> None:
        """The first snapshot has been put into the mailbox, and nothing else yet."""

    async def snapshot(self, item: timer_pb2.SnapshotItem, message_id: str | None) -> bytes:
        """The message with what the client does not know. Whatever is delivered meanwhile is told after it."""
        async with self._snapshots:  # one at a time: what is kept meanwhile belongs to one
            self.knowledge.stage()
            try:
                snapshot = await self._hub.backend.snapshot(item)
            except Exception:
                if self._greeted:
                    self._offer_again(self.knowledge.unstage())
                raise
            self._greeted = True
            if self._got_snapshot is not None:
                self._got_snapshot.set()
            fresh = self.knowledge.snapshot(snapshot, item.known.keys())
            # Soon: after the snapshot, which goes into the mailbox now.
            asyncio.get_running_loop().call_soon(self._offer_again, fresh.staged)
            return self._encode_snapshot(fresh, snapshot, message_id)

    def _encode_snapshot(
        self,
        fresh: Fresh,
        snapshot: timer_pb2.UserSnapshot,  # noqa: ARG002  # other dialects need more of it
        message_id: str | None,
    ) -> bytes:
        return self._codec.snapshot(fresh.views, fresh.gone, message_id=message_id)

    def _offer_again(self, states: list[TimerState]) -> None:
        for state in states:
            if self.offer(state) is Verdict.LOAD:
                self._hub.delivery.load(state.timer_id, [self], state.traceparent)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Reads until the peer closes. What comes after our goodbye is read, too, and thrown away: closing a socket with
        unread bytes resets the connection, and the peer would never learn why.
        """
        while True:
            while not self._said_goodbye and (self._conversation.is_full or self.outlet.over_since is not None):
                # Not reading is the one thing that slows a client down.
                self._progress = asyncio.Event()
                await self._progress.wait()
            message = await self._socket.receive()
            self._heard_at = time.monotonic()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                self._close_code = self._close_code or _close_code(message)
                return
            if self._said_goodbye:
                continue
            if message.type is WSMsgType.TEXT:
                self._asked_at = self._heard_at
                self._conversation.receive(message.data, self._heard_at)
            elif message.type is WSMsgType.BINARY:
                self._asked_at = self._heard_at
                self._conversation.receive_binary(self._heard_at)
            elif message.type is WSMsgType.PING and self._conversation.admits(self._heard_at):
                await self._socket.pong(message.data)

    # --- upkeep and end -----------------------------------------------------------------------------------------------

    def overdue(self, now: float, wall_clock: float) -> CloseCode | None:
        """Why this connection is to be closed now, if it is."""
        settings = self._hub.settings
        over_since = self.outlet.over_since
        if over_since is not None and now - over_since > settings.backlog_patience:
            return CloseCode.TOO_SLOW
        # A peer that is slow to take what we send gets to our pings late, if ever; taking is a sign of life, too.
        if now - max(self._heard_at, self.outlet.took_at) > settings.ping_timeout:
            return CloseCode.HEARTBEAT_TIMEOUT
        if wall_clock >= self.expires_at:
            return CloseCode.TOKEN_EXPIRED
        if settings.idle_seconds and now - self._asked_at > settings.idle_seconds:
            return CloseCode.IDLE
        if settings.max_connection_seconds and now - self._opened_at > settings.max_connection_seconds:
            return CloseCode.TOO_OLD
        return None

    def ping_if_due(self, now: float) -> None:
        """Sends a WebSocket ping when it is time."""
        if now - self._pinged_at >= self._hub.settings.ping_interval and self.is_open and self.outlet.ping():
            self._pinged_at = now

    async def _close_socket(self) -> None:
        """Says goodbye, waits a little for the peer to say it, too, and frees the socket in any case.

        The closing handshake is ours and not aiohttp's, which does not wait for the peer while somebody else reads.
        """
        code = self._close_code or CloseCode.BYE
        try:
            if code is CloseCode.RESTARTING:
                await self._conversation.finish(_CLOSE_PATIENCE)
            self._said_goodbye = True
            self.wake()
            if not self._socket.closed:
                self.outlet.goodbye(code.code, code.reason)
            async with asyncio.timeout(_CLOSE_PATIENCE):
                await self._peer_closed()
                await self.outlet.drained()
        except TimeoutError:
            pass
        finally:
            # A polite close waits for ever for a peer that reads nothing.
            self.outlet.shut()

    async def _peer_closed(self) -> None:
        """Returns when nothing more can be read."""
        if self._reading:
            self._read_out = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._read_out)


def _close_code(message: Any) -> CloseCode:
    """Why the socket ended, from aiohttp's last message."""
    if message.type is WSMsgType.ERROR:
        code = getattr(message.data, "code", None)
        return CloseCode.TOO_BIG if code == CloseCode.TOO_BIG.code else CloseCode.PROTOCOL_ERROR
    return CloseCode.BYE
