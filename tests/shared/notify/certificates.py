"""TLS certificates for local receivers, issued by an authority that only a test trusts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Issues certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder("authority", self._key, 1).add_extension(constraints, critical=True)
        self._own = builder.sign(self._key, hashes.SHA256())

    def context(self) -> ssl.SSLContext:
        """Return a client's TLS context that trusts only this authority."""
        return ssl.create_default_context(cadata=self._own.public_bytes(serialization.Encoding.PEM).decode())

    def certificate(self, folder: Path, host: str, days: int = 1) -> Path:
        """Write a host's certificate and key, valid for `days` from now, and return the file."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(host, key, days)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        issued = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / "receiver.pem"
        path.write_bytes(secret + issued.public_bytes(serialization.Encoding.PEM))
        return path


def _builder(name: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
    )
