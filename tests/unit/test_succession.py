"""`connection_service/succession.py`: which connections a new one takes the place of."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connection_service.domain import Connection
from connection_service.succession import predecessors

NEW = Connection(connection_id="new", user_id="alice", device_id="pixel", edge_id="edge-2", supersedable=True)
OLD = msgspec.structs.replace(NEW, connection_id="old", edge_id="edge-1")


def test_a_device_that_has_a_connection_at_another_edge_leaves_it_behind() -> None:
    assert predecessors(NEW, [OLD, NEW]) == {"edge-1": ["old"]}


def test_of_several_it_leaves_all_behind_each_told_at_its_edge() -> None:
    others = [msgspec.structs.replace(OLD, connection_id=name, edge_id=edge) for name, edge in
              (("a", "edge-1"), ("b", "edge-3"), ("c", "edge-1"))]  # fmt: skip
    assert predecessors(NEW, others) == {"edge-1": ["a", "c"], "edge-3": ["b"]}


@pytest.mark.parametrize(
    "other",
    [
        {"edge_id": "edge-2"},  # whose edge knows it itself
        {"device_id": "tablet"},
        {"user_id": "bob"},
        {"supersedable": False},  # a browser's, or of an edge of an older version
    ],
)
def test_nothing_else_is_left_behind(other: dict[str, Any]) -> None:
    assert predecessors(NEW, [msgspec.structs.replace(OLD, **other)]) == {}


@pytest.mark.parametrize("newcomer", [{"supersedable": False}, {"device_id": "unknown"}, {"device_id": ""}])
def test_clients_that_may_have_several_and_devices_without_a_name_take_nobodys_place(newcomer: dict[str, Any]) -> None:
    new, old = (msgspec.structs.replace(each, **newcomer | {"edge_id": each.edge_id}) for each in (NEW, OLD))
    assert predecessors(new, [old, OLD]) == {}


connections = st.builds(
    Connection,
    connection_id=st.text("ab", min_size=1, max_size=4),
    user_id=st.sampled_from(["alice", "bob"]),
    device_id=st.sampled_from(["pixel", "unknown"]),
    edge_id=st.sampled_from(["edge-1", "edge-2"]),
    registered_at_us=st.integers(0, 100),
    supersedable=st.booleans(),
)


@given(connections, st.lists(connections))
def test_clocks_take_no_part_and_nobody_supersedes_itself(newcomer: Connection, others: list[Connection]) -> None:
    found = predecessors(newcomer, others)
    assert newcomer.edge_id not in found
    later, earlier = (msgspec.structs.replace(newcomer, registered_at_us=at) for at in (101, -1))
    assert predecessors(later, others) == predecessors(earlier, others) == found
