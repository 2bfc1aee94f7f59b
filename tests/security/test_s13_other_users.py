"""S-13: only the mounting user gets in; who lets others in has the kernel check the modes."""

from __future__ import annotations

from tests.mounted.conftest import MakeMount, make_mount
from tests.security.others import as_other, let_others_to
from tests.support.servers import Server

__all__ = ["make_mount"]


def test_s13_another_user_is_kept_out(make_mount: MakeMount, minio: Server) -> None:
    """Whatever the modes say."""
    mount = make_mount(minio, None, "--file-mode=0666", "--dir-mode=0777")
    (mount.path / "f").write_text("text")
    let_others_to(mount.path / "f")
    assert "Permission denied" in as_other("ls", mount.path).stderr
    assert "Permission denied" in as_other("cat", mount.path / "f").stderr


def test_s13_others_that_are_let_in_get_what_the_modes_say(make_mount: MakeMount, minio: Server) -> None:
    """--allow-other brings default_permissions by itself."""
    mount = make_mount(minio, None, "--allow-other")
    let_others_to(mount.path / "f")
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (mount.path / name).write_text("text")
        (mount.path / name).chmod(mode)
    assert as_other("cat", mount.path / "open").stdout == "text"
    assert "Permission denied" in as_other("cat", mount.path / "closed").stderr
    assert "Permission denied" in as_other("touch", mount.path / "new").stderr
    assert "Permission denied" in as_other("sh", "-c", f"echo more >> {mount.path / 'open'}").stderr
    assert as_other("rm", "-f", mount.path / "open").returncode != 0
