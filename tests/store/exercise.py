"""Every method of every store, each called once for somebody with little, among many who are none of its business."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from connection_service import store as connections
from connection_service.domain import Connection
from connection_service.pushes import DeviceToken, Push, Removal
from connection_service.store.contract import Store as ConnectionStore
from sharing_service import store as shares
from sharing_service.domain import Share
from sharing_service.store.contract import Save as SaveShare
from sharing_service.store.contract import ShareStore
from timer_service import store as timers
from timer_service.domain import State, Timer
from timer_service.store.contract import Marker, TimerStore
from timer_service.store.contract import Save as SaveTimer

NOW = 1_764_000_000_000_000
_LIMIT = 500


@dataclass(frozen=True)
class Service:
    """A service's store: how it is filled with what others have, and a call of each of its methods, in an order that makes sense."""

    module: ModuleType
    contract: type
    small: frozenset[str]
    """Tables that do not grow with what is stored: what waits to be delivered, and one row per edge."""
    fill: Callable[[Any, int], Awaitable[None]]
    calls: Mapping[str, Callable[[Any], Awaitable[object]]]


def _timer(timer_id: str, owner: str, *, stopped_at_us: int = 0, pending_since_us: int = 0) -> Timer:
    return Timer(
        timer_id=timer_id,
        owner=owner,
        version=NOW,
        state=State.STOPPED if stopped_at_us else State.IDLE,
        stopped_at_us=stopped_at_us,
        pending_since_us=pending_since_us,
    )


async def _fill_timers(store: TimerStore, count: int) -> None:
    live = [_timer(f"live-{number}", f"other-{number}") for number in range(count)]
    stopped = [_timer(f"old-{number}", f"other-{number}", stopped_at_us=NOW + number) for number in range(count)]
    await store.save([SaveTimer(each, None) for each in live + stopped])


def _share(timer_id: str, *members: str, pending_since_us: int = 0) -> Share:
    return Share(timer_id=timer_id, owner="alice", members=members, version=NOW, pending_since_us=pending_since_us)


async def _fill_shares(store: ShareStore, count: int) -> None:
    await store.save([SaveShare(_share(f"other-{number}", f"other-{number}"), None) for number in range(count)])


def _row(number: int, user: str, edge: str = "edge-1") -> Connection:
    return Connection(
        connection_id=f"c{number}-{user}", user_id=user, device_id="phone", edge_id=edge, registered_at_us=NOW
    )


def _token(user: str) -> DeviceToken:
    return DeviceToken(token=f"token of {user}", user_id=user, device_id="phone", registered_at_us=NOW)


def _push(user: str, timer_id: str = "tea") -> Push:
    return Push(
        timer_id=timer_id, user_id=user, token_id=_token(user).token_id, timer_name="Tea", sharer_id="alice",
        version=NOW, created_at_us=NOW, due_at_us=NOW,
    )  # fmt: skip


async def _fill_connections(store: ConnectionStore, count: int) -> None:
    others = [f"other-{number}" for number in range(count)]
    await store.register([_row(1, other) for other in others], max_per_user=0)
    await store.save_tokens([_token(other) for other in others], max_per_user=1)
    pushes = [_push(other) for other in others]
    await store.add_pushes(pushes)
    for push in pushes:
        await store.finish_push(push.push_id, NOW)
    await store.acquire_lease("edge-1")


SERVICES = {
    "timer": Service(timers, TimerStore, frozenset({"pending"}), _fill_timers, {
        "ping": lambda store: store.ping(),
        "save": lambda store: store.save([SaveTimer(_timer("tea", "alice", pending_since_us=1), None),
                                          SaveTimer(_timer("milk", "alice", stopped_at_us=1), None)]),
        "load": lambda store: store.load(["tea", "unknown"]),
        "count_live": lambda store: store.count_live(["alice"]),
        "list_pending": lambda store: store.list_pending(_LIMIT, (0, "")),
        "list_live": lambda store: store.list_live(["alice", "bob"]),
        "list_stopped": lambda store: store.list_stopped("alice", 0, _LIMIT),
        "list_tombstones": lambda store: store.list_tombstones(NOW, _LIMIT),
        "clear_pending": lambda store: store.clear_pending([Marker("tea", NOW)]),
        "purge": lambda store: store.purge([Marker("milk", NOW)]),
    }),
    "sharing": Service(shares, ShareStore, frozenset(), _fill_shares, {
        "ping": lambda store: store.ping(),
        "save": lambda store: store.save([SaveShare(_share("tea", "bob", pending_since_us=1), None)]),
        "load": lambda store: store.load(["tea", "unknown"]),
        "load_audiences": lambda store: store.load_audiences(["tea", "unknown"]),
        "list_shared_with": lambda store: store.list_shared_with(["bob"]),
        "count_shared_with": lambda store: store.count_shared_with(["bob"]),
        "list_pending": lambda store: store.list_pending(_LIMIT, (0, "")),
        "clear_pending": lambda store: store.clear_pending([_share("tea", "bob", pending_since_us=1)]),
        "delete": lambda store: store.delete(["tea"]),
    }),
    "connection": Service(connections, ConnectionStore, frozenset({"edges"}), _fill_connections, {
        "ping": lambda store: store.ping(),
        "acquire_lease": lambda store: store.acquire_lease("edge-2"),
        "renew_lease": lambda store: store.renew_lease("edge-2"),
        "register": lambda store: store.register([_row(1, "alice"), _row(2, "alice", "edge-2")], max_per_user=5),
        "list_of_users": lambda store: store.list_of_users(["alice", "bob"]),
        "users_at": lambda store: store.users_at(["alice", "bob"], ["edge-1", "edge-2"]),
        "list_leases": lambda store: store.list_leases(),
        "list_row_edges": lambda store: store.list_row_edges(),
        "unregister": lambda store: store.unregister([_row(1, "alice").connection_id]),
        "unregister_edges": lambda store: store.unregister_edges(["edge-2"]),
        "end_lease": lambda store: store.end_lease("edge-2", 2),
        "save_tokens": lambda store: store.save_tokens([_token("alice"), _token("bob")], max_per_user=1),
        "load_tokens": lambda store: store.load_tokens([_token("alice").token_id]),
        "tokens_of_users": lambda store: store.tokens_of_users(["alice"]),
        "delete_tokens": lambda store: store.delete_tokens([_token("alice").token_id]),
        "delete_devices": lambda store: store.delete_devices([("bob", "phone")]),
        "add_pushes": lambda store: store.add_pushes([_push("alice"), _push("alice", "milk")]),
        "count_pushes": lambda store: store.count_pushes(),
        "claim_pushes": lambda store: store.claim_pushes(NOW, NOW + 1, _LIMIT),
        "postpone_push": lambda store: store.postpone_push(_push("alice").push_id, NOW + 2),
        "finish_push": lambda store: store.finish_push(_push("alice").push_id, NOW - 2),
        "forget_pushes": lambda store: store.forget_pushes(NOW - 1),
        "cancel_pushes": lambda store: store.cancel_pushes(
            [Removal(timer_id="milk", user_id="alice", version=NOW + 1)], NOW - 2
        ),
    }),
}  # fmt: skip
"""By the service's name."""
