"""Keys in a file, and where they must not turn up."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import Server

NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
"""For the environment of a mount that is to find its keys in a file."""


def key_file(server: Server, directory: Path) -> Path:
    """Write *server*'s keys into a file for its owner alone; return its path."""
    path = directory / "keys"
    path.touch(mode=0o600)
    path.write_text(
        f"[default]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    return path
