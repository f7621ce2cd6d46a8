"""Which connections a new one takes the place of. Pure: no I/O, no protobuf.

The published app opens a new connection and leaves the old one open. Of two at one edge, that edge knows; of two at different edges,
only who knows all edges' connections does. Which one is newer tells the order in which they are announced, and nothing else: the
clocks of two edges may be minutes apart. So a whole list (an edge attaches again) supersedes nobody.
"""

from collections.abc import Iterable

from connection_service.domain import UNKNOWN_DEVICES, Connection


def predecessors(newcomer: Connection, others: Iterable[Connection]) -> dict[str, list[str]]:
    """Those of the connections that a new one, which has just been announced, takes the place of, by edge.

    Only among connections that are supersedable: other clients may have several windows on one device.
    """
    if not newcomer.supersedable or newcomer.device_id in UNKNOWN_DEVICES:
        return {}
    found: dict[str, list[str]] = {}
    for other in others:
        if (
            other.supersedable
            and other.edge_id != newcomer.edge_id  # that edge has told it itself
            and other.device_id == newcomer.device_id
            and other.user_id == newcomer.user_id
        ):
            found.setdefault(other.edge_id, []).append(other.connection_id)
    return found
