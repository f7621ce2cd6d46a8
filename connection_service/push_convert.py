"""Between the protos and the rules of pushes."""

from collections.abc import Callable, Collection, Sequence

from connection_service.domain import UNKNOWN_DEVICES
from connection_service.push_worker import Invitation
from connection_service.pushes import DeviceToken, Removal, problem_with_token
from proto.connection.v1 import connection_pb2
from runtime.errors import InvalidArgument
from runtime.text import check_id


def token_from(item: connection_pb2.RegisterDeviceItem, now_us: int) -> DeviceToken:
    """A device's token. Raises InvalidArgument, naming the field as clients spell it."""
    problem = problem_with_token(item.push_token)
    if problem is not None:
        raise InvalidArgument(f"fcmToken {problem}", field="fcmToken")
    if item.device_id in UNKNOWN_DEVICES:
        raise InvalidArgument("deviceId must name the device", field="deviceId")
    return DeviceToken(
        token=item.push_token,
        user_id=check_id("userId", item.user_id),
        device_id=check_id("deviceId", item.device_id),
        registered_at_us=now_us,
    )


def to_be_pushed(
    items: Sequence[connection_pb2.DeliverItem],
    unroutable: Collection[int],
    is_connected: Callable[[str], bool],
    now_us: int,
) -> tuple[dict[int, list[Invitation]], dict[int, list[Removal]]]:
    """Who is to be told by push, by the number of the event, and who is not any more.

    Events of which it is not known who is connected (`unroutable`) come again, and invite nobody before.
    """
    invitations: dict[int, list[Invitation]] = {}
    removals: dict[int, list[Removal]] = {}
    for index, item in enumerate(items):
        if item.event.WhichOneof("kind") != "audience_changed":
            continue
        change, audience = item.event.audience_changed, item.event.audience
        if change.removed_user_ids:
            removals[index] = [
                Removal(timer_id=change.timer_id, user_id=user_id, version=audience.version)
                for user_id in change.removed_user_ids
            ]
        away = [user_id for user_id in change.added_user_ids if not is_connected(user_id)]
        if away and index not in unroutable:
            invitations[index] = [
                Invitation(
                    timer_id=change.timer_id,
                    user_id=user_id,
                    timer_name=change.timer_name,
                    sharer_id=audience.owner_id,  # nobody else adds members
                    version=audience.version,
                    created_at_us=now_us,
                    due_at_us=now_us,
                )
                for user_id in away
            ]
    return invitations, removals
