"""S-19: who names a credentials file gets the keys in it, and nothing else is asked or run."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from s3mount.store.client import ClientOptions, build_client, credentials_of
from tests.support.lying_server import listening


@pytest.mark.parametrize("profile", [None, "work"])
@pytest.mark.parametrize("has_keys", [True, False])
def test_s19_beside_a_credentials_file_no_source_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None, has_keys: bool
) -> None:
    """No program that ~/.aws/config names, no role, no variable, no service of the instance or container."""
    name = profile or "default"
    ran, config, keys = tmp_path / "ran", tmp_path / "config", tmp_path / "keys"
    section = f"[profile {name}]" if profile else "[default]"
    config.write_text(
        f"{section}\ncredential_process = touch {ran}\nrole_arn = arn:aws:iam::123456789012:role/r\n"
        "credential_source = Ec2InstanceMetadata\n"
    )
    keys.touch(mode=0o600)
    keys.write_text(f"[{name}]\n")
    if has_keys:
        keys.write_text(f"[{name}]\naws_access_key_id = of-the-file\naws_secret_access_key = secret\n")
    heard: list[object] = []

    def canary(connection: socket.socket, _: threading.Event) -> None:
        heard.append(connection.getpeername())

    with listening(canary) as url:
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client = build_client(
            ClientOptions("bucket", endpoint_url=url, profile=profile, credentials_file=str(keys))
        )
        found = credentials_of(client)
        client.close()
    assert (found.access_key if found else None) == ("of-the-file" if has_keys else None)
    assert heard == []
    assert not ran.exists()
