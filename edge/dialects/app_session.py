"""One socket's life as the published app needs it: docs/app-dialect.md tells what the app does, and so why."""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import grpc
from aiohttp import web

from edge import local_time, metrics
from edge.auth import Identity
from edge.close_codes import CloseCode
from edge.codec import app as codec
from edge.codec.app import app_codec
from edge.codec.contract import Codec
from edge.conversation import Conversation
from edge.dialects.app_conversation import AppConversation
from edge.dialects.clock import DeviceClock
from edge.dialects.devices import Devices
from edge.dialects.echoes import Echoes
from edge.dialects.members import Members
from edge.dialects.spacing import SPACING, Spacing
from edge.frames import text_frame
from edge.knowledge import Fresh, TimerState
from edge.session import Session
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime import logs
from runtime.clock import now_us
from runtime.errors import BubbleError, brief
from runtime.event_id import event_id

if TYPE_CHECKING:
    from edge.hub import Hub

log = logs.get(__name__)

PONG_INTERVAL = 10.0
"""Seconds between two pongs that nobody asked for: the app gives up when the last one is older than 15 s as it pings."""

SILENCE = 45.0
"""Seconds without a word after which a superseded socket is cut: its device pings every 30 s while it believes in one."""

QUIET_END = 100.0
"""Seconds after its goodbye at which a superseded socket is cut, whatever is still said on it: it counts towards no user's limit,
and neither idleness, nor age, nor the end of its token ends it any more."""

ABANDONED = 100.0
"""Seconds without a ping, after the first one, after which a socket is one that its device has left behind: three are missing."""

_MARGIN_US = 10_000_000  # what was on its way to a device when it was last heard of may not have reached it
_JUST_NOW_US = 1_500_000  # what a device was sent so long ago, it has just got
_SWEEP = 1.0  # seconds between two calls of `ping_if_due`
_POLL = 0.5  # seconds between two looks whether a superseded socket is silent
_HANG_UP_PATIENCE = 2.0  # seconds
_SPREAD = 5.0  # seconds within which the app's sockets are closed when all of them must be
_CORRECT_AGAIN = 0.5  # seconds between two attempts to read a timer
_CORRECTIONS = 40

_WITH_CLOSE_FRAME = frozenset(
    (
        CloseCode.BYE,  # the answer to the client's own
        CloseCode.PROTOCOL_ERROR,
        CloseCode.TOO_BIG,
        # It goes on believing in the connection until a write fails, so it comes again after half a minute. Without the frame
        # it would after five seconds.
        CloseCode.TOO_MANY_CONNECTIONS,
        CloseCode.RATE_ABUSE,
    )
)


class AppSession(Session):
    """See `Session`. `devices` is shared by all of an edge."""

    __slots__ = (
        "_app_conversation", "_correcting", "_crossed", "_default_zone", "_device", "_devices", "_missed_stops",
        "_pinged_by_app_at", "_pong_place", "_ponged_at", "_release", "_release_at", "_restarting", "_supersedes", "_to_repeat", "clock",
        "echoes", "members", "spacing",
    )  # fmt: skip

    def __init__(
        self,
        hub: "Hub",
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        devices: Devices,
        identity: Identity,
        device_id: str,
        *,
        zone: ZoneInfo | int | None,
        default_zone: ZoneInfo | int,
    ) -> None:
        self._devices = devices
        self._device = (identity.user_id, device_id)
        self._default_zone = default_zone
        self.clock = DeviceClock(zone, devices.offset(self._device))
        self.spacing = Spacing()
        self.members = Members()
        self.echoes = Echoes()
        self._release: asyncio.TimerHandle | None = None
        self._release_at = 0.0
        self._pinged_by_app_at = 0.0
        self._ponged_at = 0.0
        self._pong_place = 0
        self._restarting = False
        self._supersedes = False
        # Sets of timer ids, as dictionaries: an empty one has a third of an empty set's bytes.
        self._correcting: dict[str, None] = {}
        self._crossed: dict[str, None] = {}
        self._missed_stops: Sequence[str] = ()
        self._to_repeat: Sequence[event_pb2.TimerView] = ()
        super().__init__(hub, socket, transport, self.codec_now(), identity, device_id, resumes=False)

    async def run(self) -> CloseCode:
        try:
            return await super().run()
        finally:
            if self._devices.leave(self._device, self):
                self._note_leaving()
            if self._release is not None:
                self._release.cancel()

    def _converse(self, codec: Codec) -> Conversation:
        self._app_conversation = AppConversation(self, self._hub, codec)
        return self._app_conversation

    def _claim(self, connection_id: str) -> None:
        super()._claim(connection_id)
        if self.is_supersedable:
            previous = self._devices.enter(self._device, self)
            if previous is not None:
                self._supersedes = True
                previous.supersede()

    @property
    def is_supersedable(self) -> bool:
        return self.device_id != "unknown"

    def supersede(self) -> None:
        self._devices.leave(self._device, self)  # from here on it is told nothing, however long its socket stays open
        self._note_leaving()
        super().supersede()

    def _note_leaving(self) -> None:
        if self.knowledge.ready:
            silent = time.monotonic() - self._heard_at
            self._devices.left(self._device, now_us() - round(silent * 1_000_000))

    # --- what the device knows ----------------------------------------------------------------------------------------

    def default_offset(self, now_us: int) -> int:
        """What is taken for the device's offset while that is not known."""
        return local_time.offset_of(self._default_zone, now_us)

    def codec_now(self) -> Codec:
        """The codec for what is known of the device's clock by now."""
        now = now_us()
        return app_codec(self.clock.offset(now), self.default_offset(now))

    def use(self, codec: Codec) -> None:
        """Encodes with this from now on."""
        self._codec = codec

    def learned(self) -> None:
        """The clock may be known better than before."""
        offset = self.clock.learned
        if offset is not None and self.device_id != "unknown":
            self._devices.remember(self._device, offset)

    def acknowledged(self, message_id: str, now: float) -> None:
        """The device reads a message."""
        self.spacing.acknowledged(message_id, now)
        self.members.acknowledged(message_id)
        self.echoes.acknowledged(message_id, now)
        self._release_later(now)

    def changed(self, timer_id: str, now: float) -> None:
        """The device has changed a timer, so it takes nothing new of it for a moment."""
        if self.is_unread(timer_id):
            self._crossed[timer_id] = None
        self.spacing.touched(timer_id, now)
        self._release_later(now)

    def settled(self, timer_id: str) -> None:
        """No change of a timer by the device is under way any more."""
        self._crossed.pop(timer_id, None)

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something beside, whether or not the session goes on: the app does not ask for it twice."""
        self._devices.finish(work)

    def dropped(self, timer_id: str) -> None:
        """The device has a timer no longer."""
        self.spacing.forget(timer_id)
        self.members.forget(timer_id)
        self.clock.forget(timer_id)

    def correct(self, timer_id: str) -> None:
        """The device shows a timer otherwise than it is, and does not read refusals: it is sent what is so."""
        if timer_id not in self._correcting and self.is_open:
            self._correcting[timer_id] = None
            self.spawn(self._correct(timer_id))

    async def _correct(self, timer_id: str) -> None:
        try:
            for _ in range(_CORRECTIONS):
                try:
                    result = await self._hub.backend.get(timer_id)
                except (grpc.aio.AioRpcError, BubbleError) as error:
                    log.warning("timer not loaded yet", timer_id=timer_id, error=brief(error))
                    await asyncio.sleep(_CORRECT_AGAIN)
                else:
                    # Before the snapshot it would be too early: what that says of the timer may be thrown away.
                    if self.knowledge.ready and self._tell_what_is_so(timer_id, result):
                        return
                    await asyncio.sleep(_CORRECT_AGAIN)
        finally:
            self._correcting.pop(timer_id, None)
        self.give_up()

    def _tell_what_is_so(self, timer_id: str, result: timer_pb2.GetResult) -> bool:
        """False: it is not so any more, since something newer came while it was read."""
        view, known = result.view, self.knowledge
        name = event_id(timer_id, view.timer.version, view.audience.version)
        state = TimerState(view, name, now_us())
        if not result.HasField("view") or state.stopped or not state.visible_to(self.user_id):
            if known.version_of(timer_id) > state.version or self._knows_newer_members(timer_id, state):
                return False
            self.send_gone(timer_id, name)
            return True
        known.offer_loaded(state)
        if known.version_of(timer_id) != state.version or self._knows_newer_members(timer_id, state):
            return False
        self.send_state(state, state.frame(self._codec))  # known or not: what the device shows is not what it was sent
        return True

    def show(self, state: TimerState) -> None:
        """Sends what the device is known to have, and may not show. It was read a while ago: what came since must not be undone."""
        if self.knowledge.version_of(state.timer_id) != state.version:
            return
        if self._knows_newer_members(state.timer_id, state):
            self.correct(state.timer_id)
        else:
            self.send_state(state, state.frame(self._codec))

    def _knows_newer_members(self, timer_id: str, state: TimerState) -> bool:
        return self.knowledge.audience_is_known(timer_id, state.audience_version + 1)

    # --- being delivered to -------------------------------------------------------------------------------------------

    def is_unread(self, timer_id: str) -> bool:
        # What crossed a change of the device's own on its way may be shown there instead of that.
        return super().is_unread(timer_id) or self.spacing.is_unread(timer_id) or timer_id in self._crossed

    def send_state(self, state: TimerState, frame: bytes) -> None:
        now = time.monotonic()
        if state.stopped:
            self.dropped(state.timer_id)
            self.echoes.stopped(state.timer_id, state.event_id, now)
            super().send_state(state, frame)
        else:
            if self.spacing.holds(state.timer_id):
                metrics.CONFLATED.inc()
            if self.spacing.offer(state, now):
                self._send_now(state, frame)
            self._release_later(now)

    def send_gone(self, timer_id: str, message_id: str) -> None:
        """Tells the device to show a timer no longer."""
        self.dropped(timer_id)
        self.echoes.stopped(timer_id, message_id, time.monotonic())
        self.outlet.send_state(timer_id, text_frame(codec.stop(timer_id, message_id, "")))
        self.acks_due += 1

    def revoke(
        self, timer_id: str, audience_version: int, event_id: str, server_time_us: int, traceparent: str
    ) -> bool:
        must_tell = super().revoke(timer_id, audience_version, event_id, server_time_us, traceparent)
        if must_tell:
            self.echoes.stopped(timer_id, event_id, time.monotonic())
        return must_tell

    def forget(self, timer_id: str, audience_version: int) -> bool:
        must_tell = super().forget(timer_id, audience_version)
        if not self.knowledge.version_of(timer_id):  # else it has been shared again since
            self.dropped(timer_id)
        return must_tell

    def _send_now(self, state: TimerState, frame: bytes) -> None:
        self._has(state.view, state.event_id)
        super().send_state(state, frame)

    def _has(self, view: event_pb2.TimerView, message_id: str) -> None:
        """The device is sent this with a message."""
        if self._app_conversation.has_under_way(view.timer.timer_id):
            self._crossed[view.timer.timer_id] = None
        self.clock.shows(view.timer)
        if view.audience.owner_id == self.user_id:
            self.members.sent(message_id, view.timer.timer_id, view.audience.member_ids)

    def _release_later(self, now: float) -> None:
        """Makes sure that what is held is sent when it is due."""
        at = self.spacing.next_at()
        if at is None or not self.is_open:
            return
        if self._release is not None:
            if self._release_at <= at:
                return  # then is soon enough to look again
            self._release.cancel()
        self._release_at = at
        self._release = asyncio.get_running_loop().call_later(max(at - now, 0.0), self._release_due)

    def _release_due(self) -> None:
        self._release = None
        now = time.monotonic()
        for state in self.spacing.due(now):
            self._send_now(state, state.frame(self._codec))
        self._release_later(now)

    async def _greet(self) -> None:
        left_at_us = self._devices.left_at_us(self._device)
        if self._supersedes or (left_at_us is not None and now_us() - left_at_us < _JUST_NOW_US):
            await asyncio.sleep(
                SPACING
            )  # it had updates a moment ago, and would throw away what the list says of those
        await super()._greet()

    def _what_to_greet_with(self) -> timer_pb2.SnapshotItem:
        # A snapshot tells it what there is, and it keeps what it has. So it must be told of each timer that was stopped
        # while it was away.
        left_at_us = self._devices.left_at_us(self._device)
        since_us = 0 if left_at_us is None else left_at_us - _MARGIN_US
        return timer_pb2.SnapshotItem(user_id=self.user_id, stopped_since_us=since_us)

    def _snapshot_sent(self) -> None:
        now = now_us()
        for timer_id in self._missed_stops:
            # Unless it has brought the timer back meanwhile.
            if not self.knowledge.version_of(timer_id) and not self._app_conversation.has_under_way(timer_id):
                self.send_gone(timer_id, event_id(timer_id, now))
        for view in self._to_repeat:
            self.spacing.offer(
                TimerState(view, event_id(view.timer.timer_id, view.timer.version), now), time.monotonic()
            )
        self._missed_stops = self._to_repeat = ()

    def _encode_snapshot(self, fresh: Fresh, snapshot: timer_pb2.UserSnapshot, message_id: str | None) -> bytes:
        message_id = f"snapshot-{self.connection_id}"
        for view in fresh.views:
            self._has(view, message_id)
        now = time.monotonic()
        self._to_repeat = [view for view in fresh.views if self.spacing.is_too_soon(view.timer.timer_id, now)]
        self.spacing.sent(message_id, (view.timer.timer_id for view in fresh.views), now)
        self._release_later(now)
        self.acks_due += 1
        self._missed_stops = snapshot.stopped_timer_ids
        return super()._encode_snapshot(fresh, snapshot, message_id)

    # --- upkeep and end -----------------------------------------------------------------------------------------------

    def pinged(self, now: float) -> None:
        """The app's own ping has come."""
        self._pinged_by_app_at = self._ponged_at = now

    def overdue(self, now: float, wall_clock: float) -> CloseCode | None:
        code = super().overdue(now, wall_clock)
        if code is None and self._pinged_by_app_at and now - self._pinged_by_app_at > ABANDONED:
            return CloseCode.SUPERSEDED
        return code

    def ping_if_due(self, now: float) -> None:
        if self._close_code is not None:
            return  # nothing follows a close frame
        super().ping_if_due(now)
        if self._pinged_by_app_at and now - self._ponged_at >= PONG_INTERVAL - _SWEEP / 2:
            self._ponged_at = now
            self.use(self.codec_now())  # its zone may have changed to summer time
            if not self.outlet.waits(self._pong_place):  # one is enough for a reader that is slow
                at_us = now_us()
                self._pong_place = self.outlet.send(text_frame(self._codec.pong(b"", at_us, at_us, None)))

    def announce_restart(self, after_ms: int) -> None:  # noqa: ARG002  # the app would not understand it
        self._restarting = True

    def lose(self, code: CloseCode) -> None:
        # Who is cut comes back five seconds later to the moment, so not all at once.
        asyncio.get_running_loop().call_later(random.uniform(0, _SPREAD), self.close_soon, code)

    async def _close_socket(self) -> None:
        code = self._close_code or CloseCode.BYE
        if code in _WITH_CLOSE_FRAME:
            await super()._close_socket()
        elif code is CloseCode.SUPERSEDED:
            await self._end_quietly(code)
        else:
            await self._hang_up(code)

    async def _hang_up(self, code: CloseCode) -> None:
        """Ends the connection without a close frame, which the app would not notice."""
        try:
            if code is CloseCode.RESTARTING:
                await self._conversation.finish(_HANG_UP_PATIENCE)
            self._said_goodbye = True
            self.wake()
            self.outlet.hang_up()
            async with asyncio.timeout(_HANG_UP_PATIENCE):
                await self._peer_closed()
        except TimeoutError:
            pass
        finally:
            self.outlet.shut()

    async def _end_quietly(self, code: CloseCode) -> None:
        """Says goodbye, and cuts the connection only when its peer has been silent: the app takes the end of a socket that it
        has left for the end of the one that it uses, and reconnects; for ever, since each leaves another one behind. Who has
        not read the goodbye, and goes on talking, is cut all the same in the end.
        """
        self._hub.presence.close(self.connection_id)
        self._said_goodbye = True
        self.wake()
        if not self._socket.closed:
            self.outlet.goodbye(code.code, code.reason)
        too_many = self._devices.begin_ending(self)
        if too_many is not None:
            too_many.outlet.shut()
        try:
            end = time.monotonic() + QUIET_END
            while self._reading and not self._restarting and time.monotonic() < min(end, self._heard_at + SILENCE):
                await asyncio.sleep(_POLL)
        finally:
            self._devices.ended(self)
            self.outlet.shut()
