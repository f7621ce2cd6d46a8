"""Mutual TLS between the services and the edges: each shows a certificate, and talks only to those whose certificate the same
authority has signed, to its clients and to its servers alike.
"""

import ssl
from pathlib import Path
from typing import NamedTuple

import grpc


class Tls(NamedTuple):
    """What one process shows, and whom it believes. PEM."""

    certificate: bytes
    key: bytes
    authority: bytes
    name: str = ""
    """What all servers' certificates are made out to; empty: each to the host that its address names."""

    def for_host(self, host: str) -> "Tls":
        """For servers that were found under a name, and are reached by their addresses."""
        return self._replace(name=self.name or host)

    def for_server(self) -> grpc.ServerCredentials:
        """Lets in only those with a certificate of the authority."""
        return grpc.ssl_server_credentials([(self.key, self.certificate)], self.authority, require_client_auth=True)

    def for_channel(self) -> grpc.ChannelCredentials:
        """Shows the certificate, and believes only servers with one of the authority."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)

    @property
    def channel_options(self) -> list[tuple[str, int | str]]:
        """What a channel must know beside them."""
        return [("grpc.ssl_target_name_override", self.name)] if self.name else []


def read(certificate: Path, key: Path, authority: Path, name: str = "") -> Tls:
    """What is in the files: a certificate with the chain behind it, its key, and the certificates of the authority. Raises ValueError
    when they can't be read, or do not fit together: gRPC itself would only fail to connect.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        raise ValueError(f"{authority} has no certificate of an authority: {_why(error)}") from None
    try:
        context.load_cert_chain(certificate, key, password="")  # none: it would ask at the terminal
    except (OSError, ValueError) as error:
        raise ValueError(f"{certificate} and {key} are no certificate and its key: {_why(error)}") from None
    return Tls(certificate.read_bytes(), key.read_bytes(), authority.read_bytes(), name)


def _why(error: Exception) -> str:
    """An error of the ssl module, or of the operating system, in a few words."""
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return getattr(error, "strerror", None) or str(error)
