"""A certification authority for one test: keys and certificates that nobody else has."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as PEM files."""

    certificate: Path
    private_key: Path


class Authority:
    """Issues certificates for 127.0.0.1 into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        # DCMTK refuses less than 2048 bits.
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.crt"
        own = self._certificate(name, self._key.public_key(), datetime.now(UTC), 3650, is_ca=True)
        self.certificate.write_bytes(own)

    def issue(self, name: str, *, days: float = 90, password: bytes | None = None) -> Pair:
        """Write NAME.crt and NAME.key; a second time they are replaced."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        # Days before now let a certificate be expired already.
        since = datetime.now(UTC) - timedelta(days=100)
        pair.certificate.write_bytes(
            self._certificate(name, key.public_key(), since, 100 + days, is_ca=False)
        )
        protection = BestAvailableEncryption(password) if password else NoEncryption()
        pair.private_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
        )
        return pair

    def _certificate(
        self, name: str, key: rsa.RSAPublicKey, since: datetime, days: float, *, is_ca: bool
    ) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since - timedelta(hours=1))
            .not_valid_after(since + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
