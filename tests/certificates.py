"""An authority that signs certificates for tests."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


class Files(NamedTuple):
    """Of one process."""

    certificate: Path
    key: Path
    authority: Path

    def environment(self) -> dict[str, str]:
        """The settings that name them."""
        return {
            "BUBBLE_GRPC_CERT": str(self.certificate),
            "BUBBLE_GRPC_KEY": str(self.key),
            "BUBBLE_GRPC_CA": str(self.authority),
        }


class Authority:
    """Keeps its files in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self._path = directory / "ca.pem"
        self._path.write_bytes(self._sign(self._name, self._key, [], is_authority=True))

    def issue(self, *names: str, password: str = "") -> Files:
        """A certificate for servers with these names, which clients may show, too."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
        stem = "-".join(names) or "nobody"
        files = Files(self._directory / f"{stem}.pem", self._directory / f"{stem}.key", self._path)
        files.certificate.write_bytes(self._sign(subject, key, names))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption(),
            )
        )
        return files

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: Sequence[str], *, is_authority: bool = False
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
