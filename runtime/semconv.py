"""The names of spans and of their attributes: the only place where they are spelt.

Attributes follow OpenTelemetry's semantic conventions (1.44: messaging, rpc, db, user, device, error) wherever these have
one; what is ours alone begins with `bubble.`. Spans are named after the part and what it does (`timer.write`), shorter than
what the conventions would make of `rpc.method`. docs/operations.md has the same table, for people.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from opentelemetry.trace import SpanKind

Value: TypeAlias = str | int | bool | list[str]
Attributes: TypeAlias = Mapping[str, Value]

# ---------------------------------------------------------------- attributes of OpenTelemetry

USER_ID = "user.id"
DEVICE_ID = "device.id"
ERROR_TYPE = "error.type"

MESSAGING_SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
MESSAGE_ID = "messaging.message.id"
MESSAGE_SIZE = "messaging.message.envelope.size"
BATCH_COUNT = "messaging.batch.message_count"

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"

DB_SYSTEM = "db.system.name"
DB_COLLECTION = "db.collection.name"
DB_OPERATION = "db.operation.name"
DB_BATCH_SIZE = "db.operation.batch.size"

NETWORK_PROTOCOL = "network.protocol.name"
HTTP_STATUS = "http.response.status_code"

# ---------------------------------------------------------------- ours

ACTION = "bubble.action"
CONNECTION_ID = "bubble.connection.id"
EDGE_ID = "bubble.edge.id"
TIMER_ID = "bubble.timer.id"
VERSION = "bubble.timer.version"
BASE_VERSION = "bubble.timer.base_version"
SHARE_VERSION = "bubble.share.version"
ROLE = "bubble.role"
MEMBER_ID = "bubble.member.id"
PARTIAL = "bubble.trace.partial"
RETRY = "bubble.delivery.retry"
OUTCOME = "bubble.delivery.outcome"
WAITED_MS = "bubble.mailbox.waited_ms"
REPLACED_BY = "bubble.timer.replaced_by"
USERS = "bubble.delivery.users"
CONNECTIONS = "bubble.delivery.connections"
EDGES = "bubble.delivery.edges"
ABSENT_EDGES = "bubble.delivery.edges.absent"
SENT = "bubble.delivery.sent"
LOADING = "bubble.delivery.loading"
SKIPPED = "bubble.delivery.skipped"
BATCH_SIZE = "bubble.batch.size"
"""With how many others, itself included, one message travelled in a call. The conventions keep their own count for spans
that stand for a whole batch."""

# ---------------------------------------------------------------- values

OUTCOME_ACKED = "acked"
"""The client has acknowledged it."""
OUTCOME_NO_ACK = "no_ack"
"""It was written, and no ack came in time."""
OUTCOME_REPLACED = "replaced"
"""A newer state of the timer took its place before it was written."""
OUTCOME_WITHDRAWN = "withdrawn"
"""The user lost the right to see the timer before it was written."""
OUTCOME_CLOSED = "closed"
"""The connection ended before it was written, or acknowledged."""
OUTCOME_FORGOTTEN = "forgotten"
"""Too many of this connection were without an ack: this one, the oldest, is no longer waited for."""

DELIVERED = "delivered"
PENDING = "pending"


class SpanType(NamedTuple):
    """A kind of span: its name, its kind as OpenTelemetry has it, what is the same in all of them, and what they may have."""

    name: str
    kind: SpanKind
    constants: Attributes
    attributes: tuple[str, ...]


def _rpc(method: str) -> Attributes:
    return {RPC_SYSTEM: "grpc", RPC_METHOD: method}


def _messaging(operation: str, operation_type: str) -> Attributes:
    return {MESSAGING_SYSTEM: "bubble", OPERATION_NAME: operation, OPERATION_TYPE: operation_type}


_WHO = (USER_ID, DEVICE_ID, CONNECTION_ID)
_SOCKET: Attributes = {NETWORK_PROTOCOL: "websocket"}

WS_CONNECT = SpanType(
    "ws.connect",
    SpanKind.SERVER,
    _SOCKET,
    (USER_ID, DEVICE_ID, ERROR_TYPE, HTTP_STATUS, PARTIAL),
)
WS_RECEIVE = SpanType(
    "ws.receive",
    SpanKind.SERVER,
    _SOCKET,
    (ACTION, *_WHO, EDGE_ID, MESSAGE_ID, MESSAGE_SIZE, TIMER_ID, VERSION, SHARE_VERSION, ERROR_TYPE, PARTIAL),
)
HTTP_RECEIVE = SpanType(
    "http.receive",
    SpanKind.SERVER,
    {NETWORK_PROTOCOL: "http"},
    (ACTION, USER_ID, EDGE_ID, HTTP_STATUS, ERROR_TYPE, PARTIAL),
)
TIMER_WRITE = SpanType(
    "timer.write",
    SpanKind.SERVER,
    _rpc("bubble.timer.v1.TimerService/Write"),
    (ACTION, *_WHO, TIMER_ID, VERSION, BASE_VERSION, REPLACED_BY, BATCH_SIZE, ERROR_TYPE),
)
SHARING_AUTHORIZE = SpanType(
    "sharing.authorize",
    SpanKind.SERVER,
    _rpc("bubble.sharing.v1.SharingService/Authorize"),
    (USER_ID, TIMER_ID, ROLE, BATCH_SIZE, ERROR_TYPE),
)
SHARING_CHANGE = SpanType(
    "sharing.change",
    SpanKind.SERVER,
    _rpc("bubble.sharing.v1.SharingService/Change"),
    (ACTION, *_WHO, TIMER_ID, MEMBER_ID, SHARE_VERSION, BATCH_SIZE, ERROR_TYPE),
)
STORE_LOAD = SpanType(
    "store.load",
    SpanKind.CLIENT,
    {DB_OPERATION: "load"},
    (DB_SYSTEM, DB_COLLECTION, DB_BATCH_SIZE, ERROR_TYPE),
)
STORE_SAVE = SpanType(
    "store.save",
    SpanKind.CLIENT,
    {DB_OPERATION: "save"},
    (DB_SYSTEM, DB_COLLECTION, DB_BATCH_SIZE, ERROR_TYPE),
)
OUTBOX_DELIVER = SpanType(
    "outbox.deliver",
    SpanKind.PRODUCER,
    {**_messaging("deliver", "send"), **_rpc("bubble.connection.v1.ConnectionService/Deliver")},
    (BATCH_COUNT, TIMER_ID, VERSION, RETRY, OUTCOME, ERROR_TYPE),
)
OUTBOX_REPLACED = SpanType(
    "outbox.replaced",
    SpanKind.INTERNAL,
    {},
    (TIMER_ID, VERSION, REPLACED_BY),
)
CONNECTION_DELIVER = SpanType(
    "connection.deliver",
    SpanKind.CONSUMER,
    {**_messaging("route", "process"), **_rpc("bubble.connection.v1.ConnectionService/Deliver")},
    (MESSAGE_ID, TIMER_ID, USERS, CONNECTIONS, EDGES, ABSENT_EDGES, OUTCOME, BATCH_SIZE, ERROR_TYPE),
)
WS_SEND = SpanType(
    "ws.send",
    SpanKind.CONSUMER,
    _messaging("fan_out", "process"),
    (MESSAGE_ID, TIMER_ID, VERSION, SHARE_VERSION, CONNECTIONS, SENT, LOADING, SKIPPED, ERROR_TYPE),
)
WS_LOAD = SpanType(
    "ws.load",
    SpanKind.CLIENT,
    _rpc("bubble.timer.v1.TimerService/Get"),
    (TIMER_ID, VERSION, SHARE_VERSION, CONNECTIONS, ERROR_TYPE),
)
WS_DELIVER = SpanType(
    "ws.deliver",
    SpanKind.PRODUCER,
    {**_messaging("deliver", "send"), **_SOCKET},
    (MESSAGE_ID, MESSAGE_SIZE, *_WHO, EDGE_ID, TIMER_ID, VERSION, SHARE_VERSION, WAITED_MS, OUTCOME, ERROR_TYPE),
)

SPANS = (
    WS_CONNECT,
    WS_RECEIVE,
    HTTP_RECEIVE,
    TIMER_WRITE,
    SHARING_AUTHORIZE,
    SHARING_CHANGE,
    STORE_LOAD,
    STORE_SAVE,
    OUTBOX_DELIVER,
    OUTBOX_REPLACED,
    CONNECTION_DELIVER,
    WS_SEND,
    WS_LOAD,
    WS_DELIVER,
)
"""All of them, in the order in which a message meets them."""
