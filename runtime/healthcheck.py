"""`python -m runtime.healthcheck ADDRESS`: asks a process on this machine whether it is healthy.

For the health checks of containers: the image has no other tool for it. `host:port` is asked by the gRPC health protocol
(with certificates where BUBBLE_GRPC_CERT is set) and must answer SERVING; an `http://` URL must answer 200. Exits 0 when it
does. Otherwise exits 1, with the reason in one line on standard error (`docker inspect` shows it).
"""

import http.client
import sys
from urllib.parse import urlsplit

DEADLINE = 2.0
"""Seconds an answer may take. A process that needs longer would keep people waiting."""

_LONGEST_REASON = 300  # characters of an HTTP answer that are repeated


class Unhealthy(Exception):
    """The process answered that it is not healthy, or did not answer. The message says which, and why."""


def check(address: str) -> None:
    """Returns when the process at `address` is healthy. Raises Unhealthy; ValueError for what is no address."""
    if address.startswith("http://"):
        _check_http(address)
    else:
        _check_grpc(address)


def _check_http(url: str) -> None:
    parts = urlsplit(url)
    # Not urllib's openers: those would ask the proxy that the environment may name.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        body = response.read(_LONGEST_REASON).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unhealthy(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise Unhealthy(f"{url}: {response.status} {body}")


def _check_grpc(address: str) -> None:
    # Imported here: it is most of what a check costs, and the edge's needs none of it.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from pydantic import ValidationError

    from runtime.grpc_client import target
    from runtime.settings import ProcessSettings, describe

    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    try:
        tls = ProcessSettings().tls
    except ValidationError as error:
        raise Unhealthy(describe(error)) from error
    with (
        grpc.insecure_channel(target(address), options=options)
        if tls is None
        else grpc.secure_channel(target(address), tls.for_channel(), options=options + tls.channel_options)
    ) as channel:
        request = health_pb2.HealthCheckRequest()  # no name: the server as a whole
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            raise Unhealthy(f"{address}: {error.code().name} {error.details()}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unhealthy(f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")


def main(arguments: list[str]) -> None:
    """Exits as the module's docstring says."""
    if len(arguments) != 1:
        sys.exit("usage: python -m runtime.healthcheck HOST:PORT|http://HOST:PORT/PATH")
    try:
        check(arguments[0])
    except (Unhealthy, ValueError) as error:
        sys.exit(f"unhealthy: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
