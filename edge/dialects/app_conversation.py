"""What the published app asks, and what it is answered.

The app does not read answers, and never asks twice. So what a refusal would tell another client, the edge deals with: it
repeats what may be repeated, and sends the state as it is when the app shows something else.
"""

import asyncio
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from edge import errors
from edge.codec.contract import Codec, DecodeError
from edge.conversation import Conversation, log_unexpected
from edge.errors import ClientError
from edge.java_time import set_local_end
from edge.knowledge import TimerState
from edge.replies import Reply
from edge.requests import Acknowledge, Ping, Request, SharedWrite, Write
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from runtime import iso8601
from runtime.clock import now_us
from runtime.event_id import event_id

if TYPE_CHECKING:
    from edge.dialects.app_session import AppSession
    from edge.hub import Hub

REPEATS = (1.0, 2.0, 4.0)
"""Seconds until a command that met a system too busy is repeated, for as long as its timer is as it was. A restart of a service
is over by then."""

REPEATS_END = 15.0
"""Seconds after which it is not repeated any more, however long each attempt took: by then its user has looked again."""

_BUSY = 503

_NOT_THERE = (common_pb2.ERROR_CODE_NOT_FOUND, common_pb2.ERROR_CODE_PERMISSION_DENIED)


class _Wish(NamedTuple):
    """Who is to see a timer."""

    share_with: tuple[str, ...]
    traceparent: str
    timer_name: str
    """As it is now: who is told by push can't look."""


class AppConversation(Conversation):
    """See `Conversation`."""

    __slots__ = ("_app", "_repeating", "_sharing", "_under_way")

    def __init__(self, session: "AppSession", hub: "Hub", codec: Codec) -> None:
        super().__init__(session, hub, codec)
        self._app = session
        self._sharing: dict[str, _Wish | None] = {}
        self._under_way: dict[str, Write] = {}
        self._repeating: dict[str, Write] = {}

    def has_under_way(self, timer_id: str) -> bool:
        """Whether a command on a timer has no answer yet, or is to be repeated."""
        return timer_id in self._under_way or timer_id in self._repeating

    def refuse(self, error: ClientError, request: Request | DecodeError) -> None:
        super().refuse(error, request)
        if isinstance(request, Write):
            self._app.correct(request.item.timer_id)

    def _take(self, request: Request | DecodeError, now: float) -> None:
        app = self._app
        if isinstance(request, Acknowledge):
            app.acknowledged(request.message_id or "", now)
        elif isinstance(request, Ping):
            app.pinged(now)
        elif isinstance(request, SharedWrite):
            app.changed(request.item.timer_id, now)
            if app.echoes.is_unread(request.item.timer_id, now):
                # It would bring the timer back to everybody but its sender, who removes it a moment later.
                if self.admits(now, request):
                    self.refuse(ClientError(409, "The timer was stopped", field="timerId"), request)
                return
            self._place_in_time(request.item)
        elif isinstance(request, Write) and app.echoes.is_echo(request.item.timer_id, now):
            if self.admits(now):
                reply = self._replies.expect(None, request.kind, now)
                self._answer(reply, self._codec.processed(request.item.timer_id, 0, None))
            return
        super()._take(request, now)

    def _place_in_time(self, item: timer_pb2.WriteItem) -> None:
        """Finds out which instant the app means by its local time."""
        update, app = item.update, self._app
        if update.HasField("local_end"):
            now, end = now_us(), update.local_end.text
            app.clock.resumes(item.timer_id, end, now)
            if not app.knowledge.version_of(item.timer_id) and update.HasField("total_duration"):
                total_us = _duration(update.total_duration)
                if total_us is not None:
                    app.clock.creates(end, total_us, now)
            app.learned()
            self._codec = app.codec_now()
            app.use(self._codec)
            set_local_end(update, end, app.clock.offset(now), app.default_offset(now))

    # --- commands -----------------------------------------------------------------------------------------------------

    def _write(self, request: Write) -> None:
        timer_id = request.item.timer_id
        self._repeating.pop(timer_id, None)  # what is newer counts
        self._under_way[timer_id] = request
        super()._write(request)

    def _written(self, future: asyncio.Future[timer_pb2.WriteResult], reply: Reply, request: Write) -> None:
        super()._written(future, reply, request)
        timer_id = request.item.timer_id
        if self._under_way.get(timer_id) is request:
            del self._under_way[timer_id]
        has_result = not future.cancelled() and future.exception() is None
        if has_result and self._repeating.get(timer_id) is request:
            del self._repeating[timer_id]  # an older one has failed, so this one was about to be repeated
        if not self.has_under_way(timer_id):
            self._app.settled(timer_id)

    def _conclude(self, result: timer_pb2.WriteResult, reply: Reply, request: Write) -> None:
        if request.item.HasField("stop") and _is_gone(result):
            self._stopped(result, request)
            self._answer(reply, self._codec.processed(request.item.timer_id, result.outcome.version, None))
            return
        super()._conclude(result, reply, request)
        if isinstance(request, SharedWrite) and result.HasField("outcome"):
            self._updated(result.outcome, request)

    def _stopped(self, result: timer_pb2.WriteResult, request: Write) -> None:
        """The timer is stopped, or was so before, or is none of the user's: for the app that is the same."""
        timer_id, app, outcome = request.item.timer_id, self._app, result.outcome  # of version 0 when there is none
        if app.knowledge.version_of(timer_id) > outcome.version:
            return  # it was brought back since, and what waits for the app says so
        app.outlet.drop_state(timer_id)
        app.dropped(timer_id)
        if result.HasField("outcome"):
            state = _state(outcome.view)
            app.knowledge.wrote(state, outcome.version, outcome.base_version, waiting=False)
            app.show(state)  # which is not the stop when the timer was brought back before the stop was repeated

    def _updated(self, outcome: timer_pb2.WriteOutcome, request: SharedWrite) -> None:
        view, app = outcome.view, self._app
        app.clock.shows(view.timer)
        if request.must_see and outcome.version == view.timer.version:
            app.show(_state(view))
        if request.share_with is None:
            return
        audience = view.audience
        if audience.owner_id == app.user_id:
            self._share_with(view, _Wish(request.share_with, request.item.traceparent, view.timer.name))
        elif {audience.owner_id, *request.share_with} != {audience.owner_id, *audience.member_ids}:
            app.correct(view.timer.timer_id)  # a member's set says nothing, but it is what the device shows now

    def _fail(
        self, reply: Reply, error: BaseException, timer_id: str = "", current: event_pb2.TimerView | None = None
    ) -> None:
        super()._fail(reply, error, timer_id, current)
        request = self._under_way.pop(timer_id, None)
        if request is not None and errors.from_exception(error).code == _BUSY:
            self._repeating[timer_id] = request
            self._app.finish(self._repeat(request))
        elif timer_id and timer_id not in self._repeating:
            self._app.correct(timer_id)

    async def _repeat(self, request: Write) -> None:
        """Does for the app what it would have to do: asks again for what may have happened or not, by the same name."""
        item, timer_id = request.item, request.item.timer_id
        if not item.operation_id:
            item.operation_id = self._operation_id(None, item)
            self._fill_origin(item.origin)
        if self._app.knowledge.ready and not item.HasField("stop"):
            item.base_version = self._app.knowledge.version_of(timer_id)  # what others do meanwhile is not undone
        end = time.monotonic() + REPEATS_END
        for pause in REPEATS:
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))
            if self._repeating.get(timer_id) is not request:
                return
            if time.monotonic() > end:
                break
            try:
                result = await self._hub.backend.write(item)
            except Exception as error:
                log_unexpected(error, "request failed")
                continue
            if self._repeating.get(timer_id) is not request:
                return
            if result.HasField("outcome") and isinstance(request, SharedWrite):
                del self._repeating[timer_id]
                outcome, state = result.outcome, _state(result.outcome.view)
                if not self._app.knowledge.outlived(timer_id, state.version, state.audience_version):
                    must_see = self._app.knowledge.wrote(state, outcome.version, outcome.base_version, waiting=False)
                    if must_see and state.stopped:
                        self._app.send_state(state, state.frame(self._codec))  # by somebody else, who was faster
                    else:
                        self._app.show(state)  # who knows what it was shown meanwhile
                self._app.settled(timer_id)
                self._updated(outcome, request)
                return
            if item.HasField("stop") and _is_gone(result):
                del self._repeating[timer_id]
                self._stopped(result, request)
                return
            if errors.from_item(result.error).code != _BUSY:
                break
        del self._repeating[timer_id]
        self._app.correct(timer_id)

    # --- sharing ------------------------------------------------------------------------------------------------------

    def _share_with(self, view: event_pb2.TimerView, wish: _Wish) -> None:
        """Makes the members of a timer those that its owner wishes; of several wishes under way, the last counts."""
        timer_id = view.timer.timer_id
        if timer_id in self._sharing:
            self._sharing[timer_id] = wish
        else:
            self._sharing[timer_id] = None
            self._app.finish(self._grant(timer_id, list(view.audience.member_ids), wish))

    async def _grant(self, timer_id: str, current: list[str], wish: _Wish | None) -> None:
        while wish is not None:
            try:
                current = await self._change_members(timer_id, current, wish)
            except Exception as error:
                log_unexpected(error, "not shared")
                self._app.members.forget(timer_id)
                self._app.correct(timer_id)
            wish, self._sharing[timer_id] = self._sharing[timer_id], None
        del self._sharing[timer_id]

    async def _change_members(self, timer_id: str, current: list[str], wish: _Wish) -> list[str]:
        """Returns who the members are then. Raises what a change is refused with, when all others are made; or, with none made, that
        so many changes are too many by now: each is worth a message.
        """
        app = self._app
        wanted = [user for user in wish.share_with if user != app.user_id]
        changes = app.members.said(timer_id, current, wanted)
        refused: Exception | None = None
        items = [
            *(sharing_pb2.ChangeItem(timer_id=timer_id, remove_user_id=user) for user in changes.remove),
            *(
                sharing_pb2.ChangeItem(timer_id=timer_id, add_user_id=user, timer_name=wish.timer_name)
                for user in changes.add
            ),
        ]
        wait = self._rate.charge(len(items), time.monotonic()) if items else 0.0
        if wait:
            raise errors.too_many("changes of members", wait)
        for item in items:
            item.operation_id = self._operation_id(None, item)
            self._fill_origin(item.origin)
            item.traceparent = wish.traceparent
            result = await self._hub.backend.change(item)
            if result.HasField("error"):
                refused = errors.from_item(result.error)
            else:
                current = list(result.audience.member_ids)
        if refused is not None:
            raise refused
        return current


def _state(view: event_pb2.TimerView) -> TimerState:
    return TimerState(view, event_id(view.timer.timer_id, view.timer.version, view.audience.version), now_us())


def _is_gone(result: timer_pb2.WriteResult) -> bool:
    """Whether a stop has led to what it wanted, or there was nothing that this user could stop."""
    return result.HasField("outcome") or result.error.code in _NOT_THERE


def _duration(text: str) -> int | None:
    try:
        return iso8601.parse_duration(text)
    except ValueError:
        return None  # the service says so
