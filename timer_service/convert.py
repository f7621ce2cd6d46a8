"""Between the protobuf messages and the domain of the timer service."""

from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.errors import InvalidArgument
from runtime.telemetry import is_sampled
from timer_service import domain

_RUN_STATES = {
    domain.State.IDLE: event_pb2.RUN_STATE_IDLE,
    domain.State.RUNNING: event_pb2.RUN_STATE_RUNNING,
    domain.State.PAUSED: event_pb2.RUN_STATE_PAUSED,
    domain.State.STOPPED: event_pb2.RUN_STATE_STOPPED,
}


def request_from(item: timer_pb2.WriteItem) -> domain.Request:
    """One item as a request that is valid in itself. Raises InvalidArgument."""
    origin = item.origin
    request = domain.Request(
        timer_id=item.timer_id,
        command=_command(item),
        origin=domain.Origin(origin.user_id, origin.device_id, origin.connection_id),
        base_version=item.base_version if item.HasField("base_version") else None,
        operation_id=item.operation_id,
        # It is stored with the state, so only when there is something to go on with.
        traceparent=item.traceparent if is_sampled(item.traceparent) else "",
    )
    domain.validate(request)
    return request


def _command(item: timer_pb2.WriteItem) -> domain.Command:
    match item.WhichOneof("command"):
        case "update":
            update = item.update
            return domain.Update(
                name=update.name if update.HasField("name") else None,
                total_duration=update.total_duration if update.HasField("total_duration") else None,
                end_time=update.end_time if update.HasField("end_time") else None,
                remaining_duration=update.remaining_duration if update.HasField("remaining_duration") else None,
                local_end=_local_end(update.local_end) if update.HasField("local_end") else None,
                tags=tuple(update.tags.values) if update.HasField("tags") else None,
            )
        case "stop":
            return domain.Stop()
        case "start":
            return domain.Start()
        case "pause":
            return domain.Pause()
        case "resume":
            return domain.Resume()
        case "extend":
            return domain.Extend(item.extend.by)
        case None:
            raise InvalidArgument("The command is missing", field="action")


def _local_end(message: event_pb2.LocalEnd) -> domain.LocalEnd:
    offset = message.utc_offset_minutes if message.HasField("utc_offset_minutes") else None
    return domain.LocalEnd(message.text, offset)


def fill(message: event_pb2.Timer, timer: domain.Timer) -> None:
    """Makes an empty message a timer as it travels. In place, since a message that is given to another one is copied."""
    message.timer_id = timer.timer_id
    message.name = timer.name
    if timer.total_duration is not None:
        message.total_duration = timer.total_duration
    if timer.end_time is not None:
        message.end_time = timer.end_time
    if timer.remaining_duration is not None:
        message.remaining_duration = timer.remaining_duration
    message.run_state = _RUN_STATES[timer.state]
    message.version = timer.version
    if timer.stopped_by:
        message.stopped_by = timer.stopped_by
    message.changed_by = timer.origin.user_id
    if timer.local_end is not None:
        message.local_end.text = timer.local_end.text
        if timer.local_end.utc_offset_minutes is not None:
            message.local_end.utc_offset_minutes = timer.local_end.utc_offset_minutes
    if timer.tags:
        message.tags.extend(timer.tags)


def view(timer: domain.Timer, audience: event_pb2.Audience) -> event_pb2.TimerView:
    """A timer with its audience."""
    message = event_pb2.TimerView(audience=audience)
    fill(message.timer, timer)
    return message
