"""A certificate authority of a test session's own, and what it signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    ca: Path  #: who signs
    cert: Path  #: of a server on loopback
    key: Path  #: of the same, as trustme writes it
    keystore: Path  #: key in PKCS#8 and certificate chain, as Kafka wants them
    foreign_ca: Path  #: an authority that signed nothing here


def issue(directory: Path) -> Certificates:
    """Make an authority, a certificate for loopback, and another authority for tests of refusal."""
    made = Certificates(
        *(directory / name for name in ("ca.pem", "cert.pem", "key.pem", "ks.pem", "other.pem"))
    )
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    authority.cert_pem.write_to_path(str(made.ca))
    made.cert.write_bytes(chain)
    server.private_key_pem.write_to_path(str(made.key))
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    made.keystore.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + chain
    )
    trustme.CA().cert_pem.write_to_path(str(made.foreign_ca))
    return made
