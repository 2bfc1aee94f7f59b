"""Each thing that keeps a bucket from being used is one line, with an exit code of its kind."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from s3mount.core.exits import Exit
from s3mount.core.server_facts import ServerFacts
from s3mount.errors import StartupError
from s3mount.store.client import ClientOptions
from s3mount.store.preflight import check
from tests.support.counting_proxy import Answer, CountingProxy
from tests.support.processes import free_ports
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own configuration reaches a test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def some_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that no server knows."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")


def use_keys(monkeypatch: pytest.MonkeyPatch, server: Server, **changed: str) -> None:
    """Put the server's keys into the environment, *changed* where a test says so."""
    for name, value in (server.environment() | changed).items():
        monkeypatch.setenv(name, value)


def run_check(
    endpoint_url: str, bucket: str = "some-bucket", prefix: str = "", **options: Any
) -> ServerFacts:
    """Check with short deadlines."""
    settings = {"bucket": bucket, "endpoint_url": endpoint_url, "connect_timeout_s": 1.0, **options}
    made = ClientOptions(**settings)
    return trio.run(check, made, prefix)


def failure(endpoint_url: str, bucket: str = "some-bucket", **options: Any) -> StartupError:
    """Return the error that the check raises; its text must be one line without a secret."""
    with pytest.raises(StartupError) as caught:
        run_check(endpoint_url, bucket, **options)
    text = str(caught.value)
    assert "\n" not in text
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert os.environ.get(name, "absent secret") not in text
    return caught.value


def test_facts_of_a_usable_bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """MinIO's LIST has metadata, the others' has not; an empty prefix tells nothing."""
    use_keys(monkeypatch, server)
    bucket = server.fresh_bucket()
    assert run_check(server.endpoint_url, bucket).list_has_metadata is None
    client = server.client()
    client.put_object(Bucket=bucket, Key="p/x", Body=b"")
    client.close()
    facts = run_check(server.endpoint_url, bucket, "p/")
    assert facts.list_has_metadata is (server.name == "minio")
    assert facts.server


def test_no_such_bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is named, and the endpoint that does not have it."""
    use_keys(monkeypatch, server)
    error = failure(server.endpoint_url, "absent-bucket")
    assert str(error) == (
        f'bucket "absent-bucket": does not exist at {server.endpoint_url}; '
        "create it, or correct the name or --endpoint-url"
    )
    assert error.exit_code == Exit.NO_SUCH_BUCKET


def test_impossible_bucket_name(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no bucket can have is said to be one, whoever finds out."""
    use_keys(monkeypatch, moto)
    error = failure(moto.endpoint_url, "no bucket?")
    assert (error.thing, error.exit_code) == ('bucket "no bucket?"', Exit.NO_SUCH_BUCKET)
    assert error.cause == "is no name that a bucket can have"


@pytest.mark.parametrize("name", ["minio", "seaweedfs"])
def test_unknown_access_key(name: str, request: pytest.FixtureRequest, some_keys: None) -> None:
    """It is the access key that is wrong."""
    server: Server = request.getfixturevalue(name)
    error = failure(server.endpoint_url)
    assert (error.thing, error.exit_code) == ("access key", Exit.STORE_REFUSED)
    assert "AWS_ACCESS_KEY_ID" in error.advice


@pytest.mark.parametrize("name", ["minio", "seaweedfs"])
def test_wrong_secret_key(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the secret key that is wrong."""
    server: Server = request.getfixturevalue(name)
    use_keys(monkeypatch, server, AWS_SECRET_ACCESS_KEY="wrong")
    error = failure(server.endpoint_url)
    assert (error.thing, error.exit_code) == ("secret key", Exit.STORE_REFUSED)


def test_no_credentials(minio: Server) -> None:
    """All three ways out are named."""
    error = failure(minio.endpoint_url)
    assert (error.thing, error.cause, error.exit_code) == (
        "credentials",
        "there are none",
        Exit.STORE_REFUSED,
    )
    for way in ("--profile", "AWS_ACCESS_KEY_ID", "--no-sign-request"):
        assert way in error.advice


def test_unsigned_and_not_public(minio: Server) -> None:
    """Without signing, a private bucket's refusal says so."""
    error = failure(minio.endpoint_url, minio.fresh_bucket(), sign_requests=False)
    assert error.exit_code == Exit.STORE_REFUSED
    assert error.cause == "is not permitted without credentials"


def test_missing_profile(minio: Server) -> None:
    """A profile that is not configured is a matter of configuration."""
    error = failure(minio.endpoint_url, profile="nobody")
    assert error.exit_code == Exit.CONFIG
    assert "nobody" in error.cause


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_credentials_file_that_others_can_read(minio: Server, tmp_path: Path, mode: int) -> None:
    """Such a file is refused before anything is sent."""
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    path.chmod(mode)
    error = failure(minio.endpoint_url, credentials_file=str(path))
    assert (error.cause, error.exit_code) == ("can be read by other users", Exit.CONFIG)


def test_credentials_file_is_used_instead_of_the_environment(
    minio: Server, tmp_path: Path, some_keys: None
) -> None:
    """The file's keys win over keys in the environment, and need no profile in ~/.aws/config."""
    path = tmp_path / "credentials"
    path.write_text(
        f"[default]\naws_access_key_id = {minio.access_key}\naws_secret_access_key = {minio.secret_key}\n"
    )
    path.chmod(0o600)
    run_check(minio.endpoint_url, minio.fresh_bucket(), credentials_file=str(path))


def s3_error(status: int, code: str, more: str = "", **headers: str) -> Answer:
    """An error as S3 answers it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{more}</Error>"
    return Answer(status, body.encode(), {"Content-Type": "application/xml", **headers})


SPOILED: list[tuple[str, Answer, str, str, Exit]] = [
    (
        "wrong region, told in the body",
        s3_error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        'bucket "some-bucket"',
        "is in region eu-west-1, not us-east-1",
        Exit.WRONG_REGION,
    ),
    (
        "wrong region, told in a header",
        s3_error(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"}),
        'bucket "some-bucket"',
        "is in region eu-west-1, not us-east-1",
        Exit.WRONG_REGION,
    ),
    (
        "a redirect to elsewhere",
        s3_error(307, "TemporaryRedirect", "<Endpoint>e.example</Endpoint>", Location="http://e.example/"),
        'bucket "some-bucket"',
        "is not served in region us-east-1",
        Exit.WRONG_REGION,
    ),
    (
        "expired token",
        s3_error(400, "ExpiredToken"),
        "session token",
        "has expired",
        Exit.STORE_REFUSED,
    ),
    (
        "clock skew",
        s3_error(403, "RequestTimeTooSkewed", Date="Mon, 02 Jan 2006 15:04:05 GMT"),
        "clock",
        "says 2006-01-02 15:04:05+00:00",
        Exit.STORE_REFUSED,
    ),
    (
        "no permission to list",
        s3_error(403, "AccessDenied"),
        "listing of s3://some-bucket/",
        "is not permitted to these credentials",
        Exit.STORE_REFUSED,
    ),
    (
        "overload",
        s3_error(503, "SlowDown"),
        "endpoint",
        "answers HTTP 503 SlowDown",
        Exit.STORE_UNREACHABLE,
    ),
    (
        "a dead server behind a proxy",
        Answer(502, b"<html>Bad Gateway</html>"),
        "endpoint",
        "answers HTTP 502 without an S3 error",
        Exit.STORE_UNREACHABLE,
    ),
    ("a web page", Answer(200, b"<!DOCTYPE html><html></html>"), "endpoint", "not as S3", Exit.NOT_S3),
    ("an empty 200", Answer(200, b""), "endpoint", "not as S3", Exit.NOT_S3),
    ("another document", Answer(200, b"<a><b/></a>"), "endpoint", "not as S3", Exit.NOT_S3),
    ("a missing page", Answer(404, b"<html>no</html>"), "endpoint", "answers HTTP 404", Exit.NOT_S3),
    ("a login page", Answer(403, b"<html>no</html>"), "endpoint", "answers HTTP 403", Exit.NOT_S3),
    ("a TLS port, asked without", Answer(400, b"<html>no</html>"), "endpoint", "HTTP 400", Exit.NOT_S3),
]


@pytest.mark.parametrize(
    ("answer", "thing", "cause", "code"), [row[1:] for row in SPOILED], ids=[r[0] for r in SPOILED]
)
def test_answers_that_say_what_is_wrong(
    minio: Server, some_keys: None, answer: Answer, thing: str, cause: str, code: Exit
) -> None:
    """One request is enough, no redirect is followed, and the cause is named."""
    with CountingProxy(minio.endpoint_url) as proxy, proxy.rule(answer):
        error = failure(proxy.endpoint_url)
        assert len(proxy.requests()) == 1
    assert error.thing.startswith(thing)
    assert cause in error.cause
    assert error.exit_code == code


def test_wrong_region_advises_the_right_one(minio: Server, some_keys: None) -> None:
    """The advice can be typed."""
    answer = s3_error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")
    with CountingProxy(minio.endpoint_url) as proxy, proxy.rule(answer):
        assert failure(proxy.endpoint_url).advice == "give --region eu-west-1"


def test_connection_refused(some_keys: None) -> None:
    """Nothing listens there."""
    (port,) = free_ports(1)
    error = failure(f"http://127.0.0.1:{port}")
    assert (error.cause, error.exit_code) == ("connection refused", Exit.STORE_UNREACHABLE)


def test_no_such_host(some_keys: None) -> None:
    """A name below .invalid never resolves (RFC 2606)."""
    error = failure("http://nowhere.invalid:9000")
    assert error.exit_code == Exit.STORE_UNREACHABLE
    assert error.cause in ("no such host", "did not answer within 3 s")


def test_unusable_url(some_keys: None) -> None:
    """A URL without a scheme is a matter of configuration."""
    error = failure("127.0.0.1:9000")
    assert (error.thing, error.exit_code) == ("S3 configuration", Exit.CONFIG)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a free port and hand each connection to *serve*, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection):
                try:
                    serve(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_accepts_and_never_answers(some_keys: None) -> None:
    """A black hole ends within the stated patience."""
    ended = threading.Event()

    def wait(_: socket.socket) -> None:
        ended.wait(20)

    with listening(wait) as port:
        error = failure(f"http://127.0.0.1:{port}", connect_timeout_s=0.3)
        ended.set()
    assert error.exit_code == Exit.STORE_UNREACHABLE
    assert error.cause in ("accepts connections and does not answer", "did not answer within 0.9 s")


def test_drips_for_ever(some_keys: None) -> None:
    """A byte now and then never ends a read timeout, but the whole check has a deadline."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not ended.wait(0.05):
            connection.sendall(b"<")

    with listening(drip) as port:
        error = failure(f"http://127.0.0.1:{port}", connect_timeout_s=0.3)
        ended.set()
    assert (error.cause, error.exit_code) == ("did not answer within 0.9 s", Exit.STORE_UNREACHABLE)


def test_closes_without_an_answer(some_keys: None) -> None:
    """The connection ends at once."""

    def hang_up(connection: socket.socket) -> None:
        connection.recv(65536)

    with listening(hang_up) as port:
        error = failure(f"http://127.0.0.1:{port}")
    assert (error.cause, error.exit_code) == (
        "closes the connection without an answer",
        Exit.STORE_UNREACHABLE,
    )


def test_speaks_something_else(some_keys: None) -> None:
    """An SSH server, say."""

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        connection.recv(65536)

    with listening(greet) as port:
        error = failure(f"http://127.0.0.1:{port}")
    assert (error.cause, error.exit_code) == ("does not speak HTTP", Exit.NOT_S3)


def certificate(directory: Path, *, host: str, days: int) -> Path:
    """Write a self-signed certificate with its key for *host*, valid until *days* from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=365))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


LISTING = (
    b"<ListBucketResult><Name>some-bucket</Name><Prefix></Prefix><KeyCount>0</KeyCount>"
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)


class _Lister(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(LISTING)))
        self.end_headers()
        self.wfile.write(LISTING)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def tls_server(certificate_path: Path) -> Iterator[str]:
    """An https server that answers every GET with an empty listing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_path)

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            return

    server = Server(("127.0.0.1", 0), _Lister)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_self_signed_certificate(some_keys: None, tmp_path: Path) -> None:
    """It is refused; --ca-bundle is the way out, and works; so does an explicit --no-verify-ssl."""
    path = certificate(tmp_path, host="127.0.0.1", days=365)
    with tls_server(path) as url:
        error = failure(url)
        assert error.exit_code == Exit.TLS
        assert "self-signed" in error.cause or "self signed" in error.cause
        assert "--ca-bundle" in error.advice
        run_check(url, ca_bundle=str(path))


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(some_keys: None, tmp_path: Path) -> None:
    """verify_tls=False accepts any certificate."""
    with tls_server(certificate(tmp_path, host="elsewhere.example", days=-1)) as url:
        run_check(url, verify_tls=False)


@pytest.mark.parametrize(
    ("host", "days", "said"),
    [("elsewhere.example", 365, "host name that the certificate is for"), ("127.0.0.1", -1, "renew")],
    ids=["wrong host", "expired"],
)
def test_certificate_that_does_not_fit(
    some_keys: None, tmp_path: Path, host: str, days: int, said: str
) -> None:
    """Also one that is trusted must be for this host and not have expired."""
    path = certificate(tmp_path, host=host, days=days)
    with tls_server(path) as url:
        error = failure(url, ca_bundle=str(path))
    assert error.exit_code == Exit.TLS
    assert said in error.advice


def test_http_to_a_tls_port(some_keys: None, tmp_path: Path) -> None:
    """The endpoint should say https."""
    with tls_server(certificate(tmp_path, host="127.0.0.1", days=365)) as url:
        error = failure(url.replace("https:", "http:"))
    assert error.exit_code in (Exit.TLS, Exit.STORE_UNREACHABLE)
    assert "https" in error.advice


def test_https_to_a_plain_port(minio: Server, some_keys: None) -> None:
    """The endpoint should say http."""
    error = failure(minio.endpoint_url.replace("http:", "https:"))
    assert (error.cause, error.exit_code) == ("does not speak TLS", Exit.TLS)
    assert "http://" in error.advice
