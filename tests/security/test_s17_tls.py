"""S-17: a server that cannot prove who it is gets no request; who wants it otherwise is warned."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cli.command import Outcome, s3mount

DAY = datetime.timedelta(days=1)


def certificate(path: Path, address: str, days: int) -> None:
    """Write a certificate for *address* that ends *days* from now, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))


@contextmanager
def https_server(pem: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve HTTPS with *pem*; give the URL and the request lines that have come."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            line = self.rfile.readline(65536).decode("latin-1")
            if line:
                requests.append(line)
            self.close_connection = True

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
        thread.join()


def mount(base: Path, url: str, *options: str) -> Outcome:
    """Mount from *url*, which fails one way or the other."""
    (base / "mnt").mkdir(exist_ok=True)
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "XDG_STATE_HOME": str(base / "state")}
    words: list[str | Path] = [
        "mount",
        "bucket",
        base / "mnt",
        "--foreground",
        "--endpoint-url",
        url,
        "--attempts=1",
        *options,
    ]
    outcome = s3mount(*words, environment=keys)
    if "/dev/fuse" in outcome.stderr:
        pytest.skip("needs /dev/fuse")
    assert outcome.exit_code != 0
    return outcome


@pytest.mark.parametrize("fault", ["self-signed", "another host", "expired"])
def test_s17_a_server_that_cannot_prove_itself_gets_no_request(tmp_path: Path, fault: str) -> None:
    """Not the first byte of one: it would carry a signature."""
    pem = tmp_path / "server.pem"
    certificate(pem, "127.0.0.2" if fault == "another host" else "127.0.0.1", -1 if fault == "expired" else 9)
    trusted = [] if fault == "self-signed" else [f"--ca-bundle={pem}"]
    with https_server(pem) as (url, requests):
        outcome = mount(tmp_path, url, *trusted)
    assert requests == []
    assert "certificate" in outcome.stderr


def test_s17_a_private_authority_that_is_named_is_trusted(tmp_path: Path) -> None:
    """And nothing is said of it."""
    pem = tmp_path / "server.pem"
    certificate(pem, "127.0.0.1", 9)
    with https_server(pem) as (url, requests):
        outcome = mount(tmp_path, url, f"--ca-bundle={pem}")
    assert requests
    assert "certificate" not in outcome.stderr


def test_s17_not_to_look_at_the_certificate_is_asked_for_and_warned_of(tmp_path: Path) -> None:
    """Each start says so."""
    pem = tmp_path / "server.pem"
    certificate(pem, "127.0.0.1", 9)
    with https_server(pem) as (url, requests):
        outcome = mount(tmp_path, url, "--no-verify-ssl")
    assert requests
    assert "WARNING" in outcome.stderr
    assert "Unverified HTTPS request" in outcome.stderr
