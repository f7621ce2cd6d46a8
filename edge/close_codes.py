"""Why a socket is closed: every code with its meaning and what the client may do. docs/protocol.md has the same table."""

from enum import Enum


class CloseCode(Enum):
    """A WebSocket close code (RFC 6455, section 7.4; 4000 to 4999 are ours), its reason text, and whether a client may
    connect again by itself.
    """

    BYE = (1000, "bye", True)
    PROTOCOL_ERROR = (1002, "protocol error", True)
    TOO_BIG = (1009, "message too big", False)
    INTERNAL = (1011, "internal error", True)
    RESTARTING = (1012, "restarting", True)
    UNAVAILABLE = (1013, "unavailable", True)
    TOKEN_EXPIRED = (4401, "token expired", False)
    HEARTBEAT_TIMEOUT = (4408, "heartbeat timeout", True)
    TOO_MANY_CONNECTIONS = (4409, "too many connections", True)
    IDLE = (4410, "idle", True)
    TOO_OLD = (4411, "connection too old", True)
    SUPERSEDED = (4412, "superseded", False)
    TOO_SLOW = (4413, "too slow", True)
    RATE_ABUSE = (4429, "rate abuse", True)

    def __init__(self, code: int, reason: str, may_retry: bool) -> None:  # the table reads better so
        self.code = code
        self.reason = reason
        self.may_retry = may_retry
