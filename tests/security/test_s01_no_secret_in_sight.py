"""S-1: secrets are never in a command line, the mount table, the environment, or the state file."""

from __future__ import annotations

from pathlib import Path

from s3mount import runtime
from tests.cli.command import s3mount
from tests.mounted.conftest import MakeMount, make_mount
from tests.security.secrets import NO_KEYS, key_file
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s01_keys_from_a_file_are_nowhere_to_be_seen(
    make_mount: MakeMount, minio: Server, tmp_path: Path
) -> None:
    """Whoever may look at the process, the mount table or what is on record finds no key."""
    keys = key_file(minio, tmp_path)
    mount = make_mount(minio, None, f"--credentials-file={keys}", environment=NO_KEYS)
    (mount.path / "f").write_text("signed")
    process = Path("/proc") / str(mount.pid)
    texts = [(process / name).read_bytes() for name in ("cmdline", "environ", "mountinfo", "mounts")]
    texts += [path.read_bytes() for path in runtime.usable_directory().iterdir() if path.is_file()]
    assert str(mount.path).encode() in texts[0] and str(mount.path).encode() in texts[2]
    for text in texts:
        assert minio.secret_key.encode() not in text


def test_s01_a_key_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """As an option and in -o, where fstab would have it."""
    for words in (["--secret-access-key=geheim1234"], ["-o", "secret_key=geheim1234"]):
        outcome = s3mount("mount", "bucket", tmp_path, *words)
        assert outcome.exit_code != 0
        assert "never taken from the command line" in outcome.stderr
        assert "geheim1234" not in outcome.stdout + outcome.stderr
