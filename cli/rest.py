"""A request over HTTP, in somebody's name (docs/rest.md), for what the socket's protocol does not have."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from cli.access import Access
from cli.client import GATEWAY, HTTP_WITHIN, development_token, not_ours, unreachable
from cli.errors import Busy, refusal


class _Fault(msgspec.Struct):
    code: int
    error: str
    field: str = ""
    traceId: str = ""  # noqa: N815  # its name in the protocol


async def post(access: Access, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Posts to a path and returns the answer. Raises Problem."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_WITHIN)) as http:
        token = access.token or await development_token(http, access, access.user)
        try:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post(f"{access.url}{path}", json=body, headers=headers) as response:
                data = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(access, error) from error
    try:
        if response.status == 200:
            return msgspec.json.decode(data, type=dict[str, Any])
        fault = msgspec.json.decode(data, type=_Fault)
    except msgspec.DecodeError as error:
        if response.status in GATEWAY:
            raise Busy(f"{access.host} takes no requests now: HTTP {response.status}.") from error
        raise not_ours(access, response.status) from error
    raise refusal(
        fault.code,
        fault.error,
        field=fault.field,
        retry_after=_seconds(response.headers.get("Retry-After", "")),
        trace_id=fault.traceId,
    )


def _seconds(retry_after: str) -> float:
    """What the header says; 0 for a date, as some proxy may write it."""
    return float(retry_after) if retry_after.isdecimal() else 0.0
