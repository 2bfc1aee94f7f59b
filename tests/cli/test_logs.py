"""Logging: the two formats, and that no secret gets through either."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from s3mount import logs
from s3mount.logs import HIDDEN, JsonFormatter, TextFormatter, redact

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEBYaDEXAMPLE//TOKEN=="
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240101/us-east-1/s3/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
)
PRESIGNED = (
    "https://bucket.s3.amazonaws.com/key%20a?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20240101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20240101T000000Z"
    f"&X-Amz-Security-Token={TOKEN}&X-Amz-Signature={SIGNATURE}&versionId=3"
)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Put the process's logging back."""
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    capped = {name: logging.getLogger(name).level for name in logs._CAPPED}
    yield
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for name, old in capped.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    logs._known_secrets.clear()


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: {AUTHORIZATION}",
        f"{{'Authorization': '{AUTHORIZATION}', 'Date': 'x'}}",
        f'{{"authorization": b"{AUTHORIZATION}"}}',
        f"GET {PRESIGNED} HTTP/1.1",
        PRESIGNED.replace("=", "%3D"),
        f"https://b.s3.amazonaws.com/k?AWSAccessKeyId=AKIDEXAMPLE&Signature={SIGNATURE}&Expires=1",
        f"aws_secret_access_key = {SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET} s3mount",
        f"Credentials(access_key='AKIDEXAMPLE', secret_key='{SECRET}', token='x')",
        f'{{"SecretAccessKey": "{SECRET}", "SessionToken": "{TOKEN}"}}',
        f"<SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>",
        f"x-amz-security-token: {TOKEN}",
        f"{{'X-Amz-Security-Token': '{TOKEN}'}}",
        f"aws_session_token={TOKEN}",
    ],
)
def test_secrets_are_removed_wherever_they_are_known_to_stand(text: str) -> None:
    """Headers, presigned addresses, credentials files, answers of STS, reprs."""
    redacted = redact(text)
    assert HIDDEN in redacted
    for secret in (SECRET, TOKEN, SIGNATURE):
        assert secret not in redacted
        assert secret.replace("=", "%3D") not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "GET a/secret/plan.txt bytes 0-1023 in 12 ms",
        "key 'photos/signature.png' ETag \"d41d8cd98f00b204e9800998ecf8427e\"",
        "token=None next_token=page2",
        "mounted s3://bucket/authorization/ at /mnt",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """A log that hides everything explains nothing."""
    assert redact(text) == text


def test_what_is_not_secret_in_a_presigned_address_stays() -> None:
    """Which key it was, and which version."""
    redacted = redact(PRESIGNED)
    assert redacted.startswith("https://bucket.s3.amazonaws.com/key%20a?")
    assert redacted.endswith("&versionId=3")


def test_a_known_secret_is_removed_wherever_it_turns_up() -> None:
    """In a sentence that no pattern could foresee."""
    logs.hide(SECRET)
    logs.hide("")
    logs.hide("short")
    assert redact(f"could not decode <{SECRET}> in short") == f"could not decode <{HIDDEN}> in short"


def record(message: str, *args: object, failure: BaseException | None = None) -> logging.LogRecord:
    """Return a log record."""
    info = (type(failure), failure, failure.__traceback__) if failure else None
    made = logging.LogRecord("s3mount.x", logging.WARNING, __file__, 1, message, args, info)
    made.created, made.msecs = 1706745600.25, 250.0
    return made


def failure_with_a_secret() -> ValueError:
    """Return an exception that was raised, with a secret in its text."""
    try:
        raise ValueError(f"bad header Authorization: {AUTHORIZATION}")
    except ValueError as error:
        return error


def test_text_format() -> None:
    """UTC with milliseconds, level, logger, message."""
    assert (
        TextFormatter().format(record("read %s", "k")) == "2024-02-01T00:00:00.250Z WARNING s3mount.x: read k"
    )


def test_json_format() -> None:
    """One object, one line, whatever the message has in it."""
    line = JsonFormatter().format(record("two\nlines of %s", "é"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2024-02-01T00:00:00.250Z",
        "level": "warning",
        "logger": "s3mount.x",
        "message": "two\nlines of é",
        "thread": "MainThread",
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_secrets_in_arguments_and_exceptions_are_removed(formatter: logging.Formatter) -> None:
    """The traceback's last line is where they usually are."""
    text = formatter.format(record("with %s", f"secret_key={SECRET}", failure=failure_with_a_secret()))
    assert "ValueError" in text
    assert SECRET not in text
    assert SIGNATURE not in text


@pytest.mark.parametrize("format", ["text", "json"])
def test_nothing_secret_is_logged_at_debug_while_boto3_signs_sends_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Literal["text", "json"]
) -> None:
    """botocore and urllib3 would log headers and signatures at DEBUG; ours is not theirs."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    path = tmp_path / "log"
    logs.configure(level="debug", format=format, log_file=path)
    client = boto3.session.Session().client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )
    own = logging.getLogger("s3mount.test")
    try:
        client.get_object(Bucket="bucket", Key="key")
    except BotoCoreError as error:
        own.debug("failed for %s", client._request_signer._credentials.secret_key, exc_info=error)
    finally:
        client.close()
    text = path.read_text()
    assert "s3mount.test" in text
    assert "EndpointConnectionError" in text
    assert not re.search(r"(?i)\b(botocore|urllib3)\.\w+:", text.partition("Traceback")[0])
    for secret in (SECRET, TOKEN, "AWS4-HMAC-SHA256"):
        assert secret not in text


def test_level_and_file(tmp_path: Path) -> None:
    """Only what was asked for, in a file for its owner alone; a second configure replaces the first."""
    first, second = tmp_path / "first", tmp_path / "second"
    logs.configure(level="info", format="text", log_file=first, rotate=True)
    logs.configure(level="warning", format="text", log_file=second)
    logging.getLogger("s3mount.test").info("not this")
    logging.getLogger("s3mount.test").warning("but this")
    assert first.read_text() == ""
    assert second.read_text().endswith("WARNING s3mount.test: but this\n")
    assert second.stat().st_mode & 0o777 == 0o600


def test_a_log_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    """logrotate needs no signal."""
    path = tmp_path / "log"
    logs.configure(level="info", format="text", log_file=path)
    logging.getLogger("s3mount.test").info("one")
    path.rename(tmp_path / "log.1")
    logging.getLogger("s3mount.test").info("two")
    assert (tmp_path / "log.1").read_text().endswith("one\n")
    assert path.read_text().endswith("two\n")


def test_our_own_log_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody rotates it, so it rotates itself."""
    monkeypatch.setattr(logs, "_OWN_FILE_BYTES", 2000)
    path = tmp_path / "log"
    logs.configure(level="info", format="text", log_file=path, rotate=True)
    for number in range(200):
        logging.getLogger("s3mount.test").info("line %d of a log that nobody rotates", number)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 2000
    assert "line 199" in path.read_text()


def test_without_a_file_standard_error_is_logged_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As --foreground does."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(level="info", format="json", log_file=None)
    logging.getLogger("s3mount.test").info("here")
    assert json.loads(stream.getvalue())["message"] == "here"


def test_warnings_of_libraries_go_to_the_log(tmp_path: Path) -> None:
    """In the background nobody would see them."""
    path = tmp_path / "log"
    logs.configure(level="info", format="text", log_file=path)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("something is old", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "something is old" in path.read_text()
