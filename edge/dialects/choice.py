"""Which dialect a client speaks. Pure: looks at the handshake only."""

from collections.abc import Mapping
from enum import Enum

from edge.errors import ClientError


class Dialect(Enum):
    """The dialects of the socket, by their names in `?dialect=`."""

    FIRST = "first"
    """docs/protocol.md"""
    APP = "app"
    """docs/app-dialect.md"""


def dialect_of(query: Mapping[str, str], headers: Mapping[str, str]) -> Dialect:
    """What `dialect` in the query names; without it, a header `DeviceId` tells that it is the published app, which sends no
    query. Raises ClientError when the name is none.
    """
    named = query.get("dialect")
    if named is None:
        return Dialect.APP if "DeviceId" in headers else Dialect.FIRST
    try:
        return Dialect(named)
    except ValueError as error:
        names = " or ".join(each.value for each in Dialect)
        raise ClientError(400, f"dialect must be {names}", field="dialect") from error
