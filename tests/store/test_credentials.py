"""Keys that the server takes no more are looked for anew, and the request is made with what is found."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, CredentialRetrievalError

from s3mount.core.objects import ByteRange, FileSlice, ObjectHeaders
from s3mount.errors import AccessDenied
from s3mount.store.checked import CheckedStore
from s3mount.store.credentials import RenewableCredentials
from tests.store.conftest import Place
from tests.support.fault_actions import ACCESS_DENIED, EXPIRED_TOKEN, error

PLAIN = ObjectHeaders()


class KeyFile:
    """A credentials file, as `aws` writes it."""

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self._server = place.server

    def write(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        """Write these keys into it."""
        text = f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        self.path.write_text(text + (f"aws_session_token = {token}\n" if token else ""))
        self.path.chmod(0o600)

    def spoil(self) -> None:
        """Write keys that no server knows."""
        self.write("AKIAUNKNOWN", "secret")

    def mend(self) -> None:
        """Write the server's own."""
        self.write(self._server.access_key, self._server.secret_key)


@pytest.fixture
def keys(place: Place, tmp_path: Path) -> KeyFile:
    """A file with keys that were valid once."""
    made = KeyFile(tmp_path / "credentials", place)
    made.spoil()
    return made


def get(store: CheckedStore) -> Awaitable[Any]:
    """Read four bytes."""
    return store.get_into("x", ByteRange(0, 4), memoryview(bytearray(4)), if_match=None)


CALLS: dict[str, Callable[[CheckedStore], Awaitable[Any]]] = {
    "HeadObject": lambda store: store.head("x"),
    "ListObjectsV2": lambda store: store.list_page(""),
    "GetObject": get,
    "PutObject": lambda store: store.put("y", b"body", PLAIN),
    "DeleteObject": lambda store: store.delete("y"),
    "DeleteObjects": lambda store: store.delete_many(["y"]),
}


async def run(call: Callable[[CheckedStore], Awaitable[Any]], store: CheckedStore) -> None:
    """Make one call."""
    await call(store)


def stored(place: Place) -> None:
    """Store the object that is read."""
    client = place.server.client()
    client.put_object(Bucket=place.bucket, Key="x", Body=b"body")
    client.close()


@pytest.mark.parametrize("operation", CALLS)
def test_rotated_keys_are_read_again(place: Place, keys: KeyFile, operation: str) -> None:
    """The program sees nothing of it, and one request was refused; later ones are not."""
    stored(place)
    store = place.open_store(credentials_file=str(keys.path))
    keys.mend()
    for requests in (2, 3):
        trio.run(run, CALLS[operation], store)
        assert place.proxy.counts() == {operation: requests}


@pytest.mark.parametrize("operation", CALLS)
def test_an_expired_token_is_replaced(place: Place, keys: KeyFile, operation: str) -> None:
    """As servers with session tokens say it, to a HEAD without a word."""
    stored(place)
    keys.write(place.server.access_key, place.server.secret_key, token="expired")
    store = place.open_store(credentials_file=str(keys.path))
    keys.mend()
    with place.proxy.rule(EXPIRED_TOKEN, last=1):
        trio.run(run, CALLS[operation], store)
    assert place.proxy.counts() == {operation: 2}
    assert "x-amz-security-token" in place.proxy.requests()[0].headers
    assert "x-amz-security-token" not in place.proxy.requests()[1].headers


@pytest.mark.parametrize("operation", CALLS)
def test_the_same_keys_are_not_tried_again(place: Place, keys: KeyFile, operation: str) -> None:
    """EACCES after one request."""
    store = place.open_store(credentials_file=str(keys.path))
    with pytest.raises(AccessDenied):
        trio.run(run, CALLS[operation], store)
    assert place.proxy.counts() == {operation: 1}


def test_other_keys_that_are_refused_too_are_tried_once(place: Place, keys: KeyFile) -> None:
    """EACCES after two requests."""
    store = place.open_store(credentials_file=str(keys.path))
    keys.write("AKIAOTHER", "secret")
    with pytest.raises(AccessDenied):
        trio.run(store.list_page, "")
    assert place.proxy.counts() == {"ListObjectsV2": 2}


def test_keys_that_come_later_are_found_by_a_later_request(place: Place, keys: KeyFile) -> None:
    """The mount needs no restart."""
    store = place.open_store(credentials_file=str(keys.path))
    with pytest.raises(AccessDenied):
        trio.run(store.list_page, "")
    keys.mend()
    trio.run(store.list_page, "")


def test_an_upload_goes_on_with_the_new_keys(place: Place, keys: KeyFile, tmp_path: Path) -> None:
    """All of its bytes are sent again."""
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)
    store = place.open_store(credentials_file=str(keys.path))
    keys.mend()
    with (tmp_path / "file").open("rb") as file:
        trio.run(store.put, "x", FileSlice(file.fileno(), ByteRange(1, len(content))), PLAIN)
    client = place.server.client()
    assert client.get_object(Bucket=place.bucket, Key="x")["Body"].read() == content[1:]
    client.close()


def test_of_many_requests_one_looks(place: Place, keys: KeyFile, caplog: pytest.LogCaptureFixture) -> None:
    """And all get through."""
    stored(place)
    store = place.open_store(credentials_file=str(keys.path))
    keys.mend()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(run, get, store)

    with caplog.at_level(logging.INFO, "s3mount.store.credentials"):
        trio.run(work)
    assert len(caplog.records) == 1
    assert place.proxy.counts()["GetObject"] <= 40


def test_keys_that_others_can_read_by_now_are_not_used(place: Place, keys: KeyFile) -> None:
    """What is refused at the start of a mount is refused in its middle."""
    store = place.open_store(credentials_file=str(keys.path))
    keys.mend()
    keys.path.chmod(0o644)
    with pytest.raises(AccessDenied):
        trio.run(store.list_page, "")
    keys.path.unlink()
    with pytest.raises(AccessDenied):
        trio.run(store.list_page, "")


def test_a_missing_permission_is_no_reason_to_look(place: Place, keys: KeyFile) -> None:
    """AccessDenied says that the keys are known."""
    keys.mend()
    store = place.open_store(credentials_file=str(keys.path))
    keys.spoil()
    with place.proxy.rule(ACCESS_DENIED), pytest.raises(AccessDenied):
        trio.run(store.list_page, "")
    assert place.proxy.counts() == {"ListObjectsV2": 1}


def test_requests_without_keys_find_none(place: Place) -> None:
    """Where requests are not signed, there is nothing to look for."""
    store = place.open_store(sign_requests=False)
    with place.proxy.rule(error(403, "InvalidToken")), pytest.raises(AccessDenied):
        trio.run(store.list_page, "")
    assert place.proxy.counts() == {"ListObjectsV2": 1}


def refusal(code: str) -> ClientError:
    """Return what botocore raises for *code*."""
    return ClientError({"Error": {"Code": code}}, "HeadObject")


def test_a_head_that_is_not_permitted_does_not_look_each_time() -> None:
    """It may mean anything, and to look may start a program."""
    looked = 0

    def find() -> Credentials:
        nonlocal looked
        looked += 1
        return Credentials("a", "b")

    credentials = RenewableCredentials(Credentials("a", "b"), find)
    for _ in range(10):
        assert not credentials.mend(refusal("403"), credentials.generation)
    assert looked == 1
    for _ in range(3):
        assert not credentials.mend(refusal("ExpiredToken"), credentials.generation)
    assert looked == 4


def test_a_source_that_fails_leaves_the_keys_as_they_are() -> None:
    """They are looked for again next time."""

    def find() -> Any:
        raise CredentialRetrievalError(provider="program", error_msg="ended with 1")

    credentials = RenewableCredentials(Credentials("a", "b", "t"), find)
    assert not credentials.mend(refusal("ExpiredToken"), credentials.generation)
    frozen = credentials.get_frozen_credentials()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("a", "b", "t")
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("a", "b", "t")
