"""An authority of a drill's own, and certificates that are good, or wrong in the ways in which they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "good"
BAD = ("of an authority that nobody knows", "expired", "for another name")
_DAY = timedelta(days=1)


class Authority:
    """Makes certificates as files in a directory; `path` is its own, for those who trust it."""

    def __init__(self, directory: Path, name: str = "Drill") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = x509.BasicConstraints(ca=True, path_length=None)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(_pem(self._signed(self._name, self._key, own, now=datetime.now(UTC))))

    def certificate(self, host: str, kind: str) -> Path:
        """The file with key and certificate of a host: GOOD, or one of BAD."""
        now = datetime.now(UTC) - (400 * _DAY if kind == "expired" else timedelta())
        named = "elsewhere.test" if kind == "for another name" else host
        authority = Authority(self._directory, "Nobody") if kind == BAD[0] else self
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, named)])
        made = authority._signed(subject, key, x509.SubjectAlternativeName([x509.DNSName(named)]), now=now)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._directory / f"{host}.pem"
        path.write_bytes(private + _pem(made))
        return path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, *, now: datetime
    ) -> x509.Certificate:
        made = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        dated = made.not_valid_before(now - _DAY).not_valid_after(now + 30 * _DAY)
        return dated.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
