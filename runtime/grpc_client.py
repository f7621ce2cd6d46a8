"""Channels to the other services: one way to build them, for every process."""

import ipaddress
import json

import grpc

from runtime.tls import Tls

CALL_DEADLINE = 5.0
"""Seconds a unary call may take, restarts of the other side included. Long enough for a restart (about 2 s), short enough
for a person who waits for a reply."""

KEEPALIVE_MS = 2_000
KEEPALIVE_TIMEOUT_MS = 2_000
"""A peer that is silent for the first is pinged, and given up when it does not answer for the second: calls then go to the
other replicas. Below a call's deadline, since with one of two replicas stopped, every other call waits for that one; the
servers permit it (`grpc_server`). gRPC answers pings on threads of its own, so a busy process is not taken for a dead one."""

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # Retries are for restarts. Where more fails than succeeds they stop, or they would multiply the load of a service that
    # can't take it (gRPC's proposal A6, "Throttling Retry Attempts"): each failure costs 1 of 50, each success brings 0.5,
    # and with 25 or less left nothing is tried again.
    "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.5},
    "methodConfig": [
        # The stream has its own reconnects: a retry would play an old hello again.
        {"name": [{"service": "bubble.connection.v1.ConnectionService", "method": "Attach"}]},
        {
            "name": [{}],
            "waitForReady": True,
            # Safe for every call of ours: reads and changes alike may be repeated (see the protos).
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                # CANCELLED: the call came in the very moment in which the server stopped.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
    ],
}

MESSAGE_LIMIT = 16 * 1024 * 1024
"""Bytes of one gRPC message. The snapshot of any one user within the default limits fits (`timer_service.audiences`); of batches
that do not, their senders make smaller ones (`errors.is_too_large`)."""

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),  # a proxy that the environment names is for the world outside
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # this one decides; by itself it is a minute
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted service is found within a second, and a new replica within ten.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # Each channel has sockets of its own: two edges in one test process must not share a fate.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(addresses: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to all replicas of a service, taking turns between them.

    `addresses` is `host:port`, where the host's name may stand for many replicas, or several `ip:port`, separated by
    commas. `tls`: None is without encryption. Must be closed. Raises ValueError for anything else.
    """
    if tls is None:
        return grpc.aio.insecure_channel(target(addresses), options=_OPTIONS)
    if not tls.name and "," in addresses:
        raise ValueError("with certificates, several addresses need a name that all of them have: BUBBLE_GRPC_NAME")
    return grpc.aio.secure_channel(target(addresses), tls.for_channel(), options=_OPTIONS + tls.channel_options)


def target(addresses: str) -> str:
    """The gRPC name of a list of addresses. Raises ValueError when it is none."""
    parts = [split_address(address) for address in addresses.split(",")]
    if len(parts) == 1:
        host, port = parts[0]
        return f"dns:///{_bracketed(host)}:{port}"
    families = {ipaddress.ip_address(host).version for host, _ in parts}
    if len(families) != 1:
        raise ValueError("addresses of one list must be of one family")
    return f"ipv{families.pop()}:" + ",".join(f"{_bracketed(host)}:{port}" for host, port in parts)


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its two parts. Raises ValueError when it is not that."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
