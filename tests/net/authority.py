"""Certificates for tests, of an authority that nobody else trusts."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """Its own certificate is in `ca`; what `write` makes is in `certificate` and `key`, as a server is told of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self._ca.cert_pem.write_to_path(self.ca)
        self.write()

    @property
    def flags(self) -> list[str]:
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]

    def write(self, *names: str) -> None:
        """A new certificate, which takes the place of the old one; for localhost, and for these names."""
        made = self._ca.issue_cert("localhost", "127.0.0.1", *names)
        self.certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())

    def stranger(self, name: str) -> Path:
        """A certificate with its key, in one file of its own."""
        made = self._ca.issue_cert(name)
        path = self._folder / f"{name}.pem"
        path.write_bytes(made.private_key_and_cert_chain_pem.bytes())
        return path

    def trust(self) -> ssl.SSLContext:
        """A client's context."""
        return ssl.create_default_context(cafile=self.ca)
