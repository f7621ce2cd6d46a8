"""`connection_service/domain.py`: who gets an event."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connection_service.domain import UNKNOWN_DEVICES, Connection, Registry

EDGES = ["edge-1", "edge-2", "edge-3"]
USERS = ["alice", "bob", "carol"]
DEVICES = ["phone", "laptop", "unknown", ""]


def connection(connection_id: str, user: str, device: str = "phone", edge: str = "edge-1") -> Connection:
    return Connection(connection_id=connection_id, user_id=user, device_id=device, edge_id=edge)


def registry(*connections: Connection) -> Registry:
    made = Registry()
    for edge in EDGES:
        made.attach(edge, [each for each in connections if each.edge_id == edge])
    return made


def ids(routes: dict[str, list[str]]) -> set[str]:
    return {connection_id for connection_ids in routes.values() for connection_id in connection_ids}


def test_an_event_goes_once_to_each_edge_with_all_its_connections() -> None:
    everybody = registry(
        connection("a1", "alice", edge="edge-1"),
        connection("b1", "bob", edge="edge-1"),
        connection("b2", "bob", "laptop", edge="edge-2"),
        connection("c1", "carol", edge="edge-3"),
    )
    routes = everybody.route(["alice", "bob", "bob"])
    assert {edge: sorted(found) for edge, found in routes.items()} == {"edge-1": ["a1", "b1"], "edge-2": ["b2"]}


def test_an_event_for_nobody_here_goes_nowhere() -> None:
    assert registry(connection("a1", "alice")).route(["bob"]) == {}
    assert registry(connection("a1", "alice")).route([]) == {}


def test_every_connection_of_the_originating_device_is_left_out() -> None:
    everybody = registry(
        connection("a1", "alice", "phone"),
        connection("a2", "alice", "phone", edge="edge-2"),
        connection("a3", "alice", "laptop"),
        connection("b1", "bob", "phone"),
    )
    routes = everybody.route(["alice", "bob"], user_id="alice", device_id="phone", connection_id="a1")
    assert ids(routes) == {"a3", "b1"}


def test_a_device_of_the_same_name_of_another_user_is_another_device() -> None:
    routes = registry(connection("a1", "alice"), connection("b1", "bob")).route(
        ["bob", "alice"], user_id="alice", device_id="phone", connection_id="a1"
    )
    assert ids(routes) == {"b1"}


def test_two_unknown_devices_are_never_taken_for_the_same_one() -> None:
    for name in UNKNOWN_DEVICES:
        everybody = registry(connection("a1", "alice", name), connection("a2", "alice", name))
        assert ids(everybody.route(["alice"], user_id="alice", device_id=name, connection_id="a1")) == {"a2"}


def test_the_successor_of_a_connection_that_is_gone_gets_the_event() -> None:
    everybody = registry(connection("a1", "alice"), connection("a2", "alice", "laptop"))
    everybody.close("edge-1", "a1")
    everybody.open("edge-1", connection("a1-again", "alice"))
    routes = everybody.route(["alice"], user_id="alice", device_id="phone", connection_id="a1")
    assert ids(routes) == {"a1-again", "a2"}


def test_an_origin_without_a_connection_leaves_out_its_device() -> None:
    everybody = registry(connection("a1", "alice"), connection("a2", "alice", "laptop"))
    assert ids(everybody.route(["alice"], user_id="alice", device_id="phone")) == {"a2"}


def test_attaching_replaces_what_was_known_of_the_edge() -> None:
    known = registry(connection("a1", "alice"), connection("a2", "alice"), connection("b1", "bob", edge="edge-2"))
    known.attach("edge-1", [connection("a2", "alice"), connection("a3", "alice")])
    assert ids(known.route(["alice", "bob"])) == {"a2", "a3", "b1"}
    assert known.count("edge-1") == 2


def test_a_detached_edge_gets_nothing_and_its_late_news_are_ignored() -> None:
    known = registry(connection("a1", "alice"), connection("b1", "bob", edge="edge-2"))
    known.detach("edge-1")
    known.open("edge-1", connection("a2", "alice"))
    known.close("edge-1", "a1")
    known.detach("edge-1")
    assert known.route(["alice", "bob"]) == {"edge-2": ["b1"]}
    assert known.count("edge-1") == 0


def test_an_edge_can_not_close_the_connections_of_another() -> None:
    known = registry(connection("a1", "alice"))
    known.close("edge-2", "a1")
    assert ids(known.route(["alice"])) == {"a1"}


class RegistryMachine(RuleBasedStateMachine):
    """Any sequence of attaching, opening, closing and detaching, beside a plain list of what must be known."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.known: dict[str, dict[str, Connection]] = {}

    def made(self, edge: str, number: int, user: str, device: str) -> Connection:
        # Ids are never used again for another user or device.
        return connection(f"{edge}/{number}/{user}/{device}", user, device, edge)

    @rule(
        edge=st.sampled_from(EDGES),
        rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(USERS), st.sampled_from(DEVICES)), max_size=4),
    )
    def attach(self, edge: str, rows: Iterable[tuple[int, str, str]]) -> None:
        connections = [self.made(edge, *row) for row in rows]
        self.registry.attach(edge, connections)
        self.known[edge] = {each.connection_id: each for each in connections}

    @rule(
        edge=st.sampled_from(EDGES),
        number=st.integers(0, 3),
        user=st.sampled_from(USERS),
        device=st.sampled_from(DEVICES),
    )
    def open(self, edge: str, number: int, user: str, device: str) -> None:
        opened = self.made(edge, number, user, device)
        self.registry.open(edge, opened)
        if edge in self.known:
            self.known[edge][opened.connection_id] = opened

    @rule(
        edge=st.sampled_from(EDGES),
        number=st.integers(0, 3),
        user=st.sampled_from(USERS),
        device=st.sampled_from(DEVICES),
    )
    def close(self, edge: str, number: int, user: str, device: str) -> None:
        closed = self.made(edge, number, user, device).connection_id
        self.registry.close(edge, closed)
        self.known.get(edge, {}).pop(closed, None)

    @rule(edge=st.sampled_from(EDGES))
    def detach(self, edge: str) -> None:
        self.registry.detach(edge)
        self.known.pop(edge, None)

    @rule(
        recipients=st.lists(st.sampled_from(USERS), max_size=3),
        number=st.integers(0, 3),
        edge=st.sampled_from(EDGES),
        user=st.sampled_from(USERS),
        device=st.sampled_from(DEVICES),
    )
    def route(self, recipients: list[str], number: int, edge: str, user: str, device: str) -> None:
        origin = self.made(edge, number, user, device)
        routes = self.registry.route(recipients, user_id=user, device_id=device, connection_id=origin.connection_id)
        everybody = [each for connections in self.known.values() for each in connections.values()]
        leave_out_device = origin in everybody and device not in UNKNOWN_DEVICES
        expected = {
            each.connection_id
            for each in everybody
            if each.user_id in recipients
            and each.connection_id != origin.connection_id
            and not (leave_out_device and (each.user_id, each.device_id) == (user, device))
        }
        assert ids(routes) == expected
        assert sum(map(len, routes.values())) == len(expected)

    @invariant()
    def counts_agree(self) -> None:
        for edge in EDGES:
            assert self.registry.count(edge) == len(self.known.get(edge, {}))

    @invariant()
    def everybody_is_found(self) -> None:
        expected = {connection_id for connections in self.known.values() for connection_id in connections}
        assert ids(self.registry.route(USERS)) == expected


TestRegistryMachine = RegistryMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from(EDGES), st.sampled_from(USERS)), max_size=20))
def test_when_everything_has_gone_nothing_is_left_in_memory(rows: list[tuple[str, str]]) -> None:
    known = registry()
    for number, (edge, user) in enumerate(rows):
        known.open(edge, connection(str(number), user, edge=edge))
    for number, (edge, _) in enumerate(rows):
        known.close(edge, str(number))
    assert known.route(USERS) == {}
    assert not known._by_user
    assert all(not connections for connections in known._by_edge.values())
