"""What one client has been told, and so what it still must be told. Pure: no I/O.

Deliveries come at least once and in any order, from several replicas; this is where that becomes, for each client, states
whose versions never go back, of timers it may see.
"""

from collections.abc import Collection
from enum import Enum, auto
from typing import NamedTuple

from edge.codec.contract import Codec
from edge.frames import text_frame
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2

MAX_REMEMBERED = 256
"""Timers that were stopped or taken away and are remembered by a connection. A late duplicate for one of them comes within
seconds (a call's deadline); this is for hundreds of stops in that time."""

MAX_STAGED = 4_000
"""Timers whose changes may wait for a snapshot. The default limits let nobody see more than 2,500."""


class _Known(NamedTuple):
    version: int
    audience_version: int


class TimerState:
    """A timer's state on its way to many clients: encoded once per dialect."""

    __slots__ = (
        "_frames", "_server_time_us", "audience_version", "event_id", "known", "owner_id", "stopped", "timer_id",
        "traceparent", "version", "view",
    )  # fmt: skip

    def __init__(self, view: event_pb2.TimerView, event_id: str, server_time_us: int, traceparent: str = "") -> None:
        timer, audience = view.timer, view.audience
        self.traceparent = traceparent
        """The context of the delivery; empty when it is not traced. The same for all who get it."""
        self.view = view
        self.event_id = event_id
        # Once: protobuf makes a new text at each look, and every connection keeps one as a key.
        self.timer_id = timer.timer_id
        self.version = timer.version
        self.audience_version = audience.version
        self.known = _Known(self.version, self.audience_version)
        """What those know who are told: one object for all of them."""
        self.owner_id = audience.owner_id
        self.stopped = timer.run_state == event_pb2.RUN_STATE_STOPPED
        self._server_time_us = server_time_us
        self._frames: dict[tuple[Codec, bool], bytes] = {}

    def visible_to(self, user_id: str) -> bool:
        """Whether a user is in the audience."""
        return user_id == self.owner_id or user_id in self.view.audience.member_ids

    def frame(self, codec: Codec, *, as_share: bool = False) -> bytes:
        """The WebSocket frame that tells of this state, or that the timer has just been shared."""
        frame = self._frames.get((codec, as_share))
        if frame is None:
            encode = codec.share_added if as_share else codec.timer
            message = encode(self.view, self.event_id, self._server_time_us, traceparent=self.traceparent)
            frame = text_frame(message)
            self._frames[codec, as_share] = frame
        return frame


class Verdict(Enum):
    """What to do with a state for one client."""

    SEND = auto()
    SEND_AS_SHARE = auto()
    """Send it as a timer that has just been shared with the client's user."""
    SKIP = auto()
    """The client has it, or something newer, or may not see it."""
    LOAD = auto()
    """It can't be told from the event alone: read the timer and its audience as they are now, and offer that."""
    WAIT = auto()
    """It was kept until the first snapshot."""


class _Gone(NamedTuple):
    version: int
    audience_version: int
    revoked: bool


class Fresh(NamedTuple):
    """What follows from a snapshot."""

    views: list[event_pb2.TimerView]
    """To be sent."""
    gone: list[str]
    """Timers that the client has no longer, those taken away while the snapshot was read included."""
    staged: list[TimerState]
    """What was kept until now, to be offered again."""


class TooMuchStaged(Exception):
    """More came before the first snapshot than can be kept."""


class Knowledge:
    """What one client of one user knows. Until the first `snapshot`, what is offered is kept."""

    __slots__ = ("_gone", "_known", "_made", "_staged", "_user_id")

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._known: dict[str, _Known] = {}
        self._gone: dict[str, _Gone] = {}
        self._staged: dict[str, tuple[TimerState, ...]] | None = {}
        self._made: set[str] | None = None
        """Timers that the client's own commands changed while a snapshot was being read, which may not have seen that."""

    @property
    def ready(self) -> bool:
        """Whether the first snapshot has been taken."""
        return self._staged is None

    def offer(self, state: TimerState) -> Verdict:
        """A state as it came with an event: SEND, SKIP, LOAD or WAIT. Raises TooMuchStaged."""
        if self._staged is not None:
            return self._stage(self._staged, state)
        timer_id = state.timer_id
        known = self._known.get(timer_id)
        if known is None:
            gone = self._gone.get(timer_id)
            if gone is not None and state.version <= gone.version:
                return Verdict.SKIP
            # A member who does not know the timer: it may have been taken away since the event was made. Or it has just
            # been shared, and the event that says so is still to come. The authority knows. So it does who sees a timer that
            # was stopped and runs again, when the event was made before a change of that which this client knows.
            if state.owner_id != self._user_id or (gone is not None and state.audience_version < gone.audience_version):
                return Verdict.LOAD
        else:
            if state.version < known.version:
                return Verdict.SKIP
            if state.audience_version < known.audience_version:
                # Made before a change of the audience that this client knows already: it would undo that.
                return Verdict.SKIP if state.version == known.version else Verdict.LOAD
            if state.version == known.version and state.audience_version == known.audience_version:
                return Verdict.SKIP
        return self._take(state)

    def offer_loaded(self, state: TimerState) -> Verdict:
        """A state that was read just now, for an event that asked for it: SEND, SEND_AS_SHARE or SKIP; LOAD when it is out of date
        already; or WAIT. Raises TooMuchStaged.
        """
        if not state.visible_to(self._user_id):
            return Verdict.SKIP  # the event that takes it away is on its way
        if self._staged is not None:
            return self._stage(self._staged, state)
        timer_id = state.timer_id
        known, gone = self._known.get(timer_id), self._gone.get(timer_id)
        if gone is not None and (
            state.audience_version <= gone.audience_version
            if gone.revoked
            else state.version <= gone.version or state.audience_version < gone.audience_version
        ):
            return Verdict.SKIP
        if known is not None and state.version < known.version and state.audience_version > known.audience_version:
            return Verdict.LOAD  # what came meanwhile was committed for the audience of before: each lacks something
        if known is not None and (
            state.version < known.version
            or state.audience_version < known.audience_version
            or (state.version == known.version and state.audience_version == known.audience_version)
        ):
            return Verdict.SKIP
        if known is None and state.stopped:
            self._remember(timer_id, _Gone(state.version, state.audience_version, revoked=False))
            return Verdict.SKIP
        is_new = known is None and (gone is None or gone.revoked) and state.owner_id != self._user_id
        return Verdict.SEND_AS_SHARE if self._take(state) is Verdict.SEND and is_new else Verdict.SEND

    def stage(self) -> None:
        """A snapshot is being read: what is offered is kept until `snapshot`, or `unstage`."""
        self._made = None
        if self._staged is None:
            self._staged = {}

    def unstage(self) -> list[TimerState]:
        """The snapshot was not read after all. Returns what was kept, to be offered again."""
        staged, self._staged, self._made = self._staged, None, None
        return [state for states in staged.values() for state in states] if staged else []

    def told_audience(self, timer_id: str, audience_version: int) -> None:
        """The answer to the client's own change of an audience tells who is in it now."""
        known = self._known.get(timer_id)
        if known is not None and known.audience_version < audience_version:
            self._known[timer_id] = _Known(known.version, audience_version)

    def audience_is_known(self, timer_id: str, audience_version: int) -> bool:
        """Whether the client was told of this audience, or of a newer one."""
        known = self._known.get(timer_id)
        return known is not None and known.audience_version >= audience_version

    def revoke(self, timer_id: str, audience_version: int) -> bool:
        """The user may not see a timer any longer. Returns whether the client must be told."""
        gone = self._gone.get(timer_id)
        if gone is not None and gone.audience_version >= audience_version:
            return False  # it was told already, or the timer has been shared again since, and stopped
        known = self._known.get(timer_id)
        if known is not None and known.audience_version > audience_version:
            return False  # it has been shared again since
        self._known.pop(timer_id, None)
        staged = self._staged.pop(timer_id, None) if self._staged is not None else None
        # Remembered with version 0: when it is shared again, its state is new to this client whatever its version.
        self._remember(timer_id, _Gone(0, audience_version, revoked=True))
        return known is not None or staged is not None

    def wrote(self, state: TimerState, version: int, base_version: int, *, waiting: bool) -> bool:
        """The client's own command made `version` out of `base_version`, and the timer is now as in `state`.

        Returns whether the client must be sent that state, since it has missed something that the command built on.
        `waiting`: an older state of the timer has not been written to the client yet, so that one has been missed, too.
        """
        timer_id = state.timer_id
        known, gone = self._known.get(timer_id), self._gone.get(timer_id)
        if self.outlived(timer_id, state.version, state.audience_version):
            return False  # it was stopped, or the right to see it was taken away, while the command was under way
        if known is not None and state.version <= known.version:
            return False
        known_version = known.version if known is not None else gone.version if gone is not None else 0
        # The answer does not tell of the audience.
        audience_is_news = known is not None and state.audience_version > known.audience_version
        self._take(state)
        if self._staged is not None:
            self._made = self._made or set()
            self._made.add(timer_id)
        return waiting or audience_is_news or version != state.version or base_version not in (0, known_version)

    def version_of(self, timer_id: str) -> int:
        """The version of a timer that the client was sent, or made; 0 when it has none."""
        known = self._known.get(timer_id)
        return 0 if known is None else known.version

    def is_revoked(self, timer_id: str) -> bool:
        """Whether the right to see a timer was taken away, as far as is remembered."""
        gone = self._gone.get(timer_id)
        return gone is not None and gone.revoked

    def snapshot(self, snapshot: timer_pb2.UserSnapshot, claimed: Collection[str]) -> Fresh:
        """A snapshot that was read after the connection was announced. `claimed`: the timers that the client says it has."""
        views = []
        for view in snapshot.views:
            timer_id = view.timer.timer_id
            known = self._known.get(timer_id)
            if known is not None and view.timer.version < known.version:
                continue
            if not self.outlived(timer_id, view.timer.version, view.audience.version):
                views.append(view)
        made = self._made or ()
        gone = [timer_id for timer_id in snapshot.gone_timer_ids if timer_id not in made or timer_id not in self._known]
        for timer_id, versions in snapshot.versions.items():
            if self.outlived(timer_id, versions.version, versions.audience_version):
                if timer_id in claimed:  # it may have it from an earlier connection, of which nothing is known here
                    gone.append(timer_id)
                continue
            self._gone.pop(timer_id, None)
            known = self._known.get(timer_id, _Known(0, 0))
            self._known[timer_id] = _Known(
                max(known.version, versions.version), max(known.audience_version, versions.audience_version)
            )
        for timer_id in gone:
            self._known.pop(timer_id, None)
        return Fresh(views, gone, self.unstage())

    def outlived(self, timer_id: str, version: int, audience_version: int) -> bool:
        """Whether the timer was stopped or taken away after it was read."""
        gone = self._gone.get(timer_id)
        if gone is None:
            return False
        return audience_version <= gone.audience_version if gone.revoked else version <= gone.version

    def _take(self, state: TimerState) -> Verdict:
        timer_id = state.timer_id
        known = self._known.get(timer_id)
        now = state.known
        if known is not None and known.audience_version > now.audience_version:
            now = _Known(now.version, known.audience_version)
        if state.stopped:
            self._known.pop(timer_id, None)
            self._remember(timer_id, _Gone(now.version, now.audience_version, revoked=False))
        else:
            self._known[timer_id] = now
            if self._gone:
                self._gone.pop(timer_id, None)
        return Verdict.SEND

    def _stage(self, staged: dict[str, tuple[TimerState, ...]], state: TimerState) -> Verdict:
        kept = staged.get(state.timer_id, ())
        if not kept and len(staged) >= MAX_STAGED:
            raise TooMuchStaged
        kept = (*kept, state)
        newest = max(kept, key=lambda each: (each.version, each.audience_version))
        last_audience = max(kept, key=lambda each: (each.audience_version, each.version))
        # A state may have been committed for the audience of before. The last audience first: the newest state is loaded then.
        is_one = newest.audience_version >= last_audience.audience_version
        staged[state.timer_id] = (newest,) if is_one else (last_audience, newest)
        return Verdict.WAIT

    def _remember(self, timer_id: str, gone: _Gone) -> None:
        self._gone.pop(timer_id, None)
        self._gone[timer_id] = gone
        if len(self._gone) > MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]
