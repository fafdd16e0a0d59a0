"""Certificates for servers of the tests' own on loopback, and for who connects to them, of an authority that lives as long."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)
LOOPBACK = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
ALL = {
    "key_cert_sign": True, "crl_sign": True, "digital_signature": True, "content_commitment": False, "key_encipherment": False,
    "data_encipherment": False, "key_agreement": False, "encipher_only": False, "decipher_only": False,
}  # fmt: skip


class Certificates(NamedTuple):
    """Files: who is trusted, and one certificate with its key, for both sides."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What a Redis is started with that listens to nobody without a certificate."""
        files = ("--tls-ca-cert-file", self.authority, "--tls-cert-file", self.certificate, "--tls-key-file", self.key)
        return (*map(str, files), "--tls-replication", "yes")

    @property
    def query(self) -> str:
        """What a store's URL says of them."""
        names = {"ssl_ca_certs": self.authority, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        return urlencode({name: str(path) for name, path in names.items()})

    @property
    def context(self) -> ssl.SSLContext:
        """For who connects."""
        made = ssl.create_default_context(cafile=str(self.authority))
        made.load_cert_chain(self.certificate, self.key)
        return made


def certificates(folder: Path) -> Certificates:
    """New ones, in this folder."""
    folder.mkdir(exist_ok=True)
    found = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    own, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root, end = _name("tidelog tests"), _name("loopback")
    authority = _begun(root, root, own).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    authority = authority.add_extension(x509.KeyUsage(**ALL), critical=True)
    leaf = _begun(end, root, other).add_extension(LOOPBACK, critical=False)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key()), critical=False)
    for builder, path in ((authority, found.authority), (leaf, found.certificate)):
        path.write_bytes(builder.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    found.key.write_bytes(other.private_bytes(serialization.Encoding.PEM, form, plain))
    return found


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, public = datetime.datetime.now(datetime.UTC), key.public_key()
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
