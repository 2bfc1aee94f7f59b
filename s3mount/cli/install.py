"""``s3mount install``: what mount(8), systemd, man(1) and shells look for, put where they look."""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from s3mount.cli.mount8 import MOUNT_NAMES, UMOUNT_NAMES
from s3mount.cli.parser import Commands, wrapped
from s3mount.config.machine import STATE, SYSTEM_USER
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_DESCRIPTION = """\
Put the helpers of mount(8) and umount(8), the systemd units, man pages and completions for bash, zsh and \
fish where they are looked for, so that a line in /etc/fstab and `systemctl enable s3mount@NAME` work, and \
make the user s3mount, whom mounts of root's run as. Says what it does; a second time there is nothing to do.\
 Nothing that somebody else has put there is replaced or removed.
"""

_NO_LOGIN = "/usr/sbin/nologin"
_HELPERS = "usr/sbin"  # where mount(8) looks, whatever PATH is; /sbin is a link to it
# Where they are in the sources, and below a prefix where systemd(1), man(1), bash, zsh and fish look.
_FILES = (
    ("systemd/system", "*.service", "lib/systemd/system"),
    ("systemd/system", "*.socket", "lib/systemd/system"),
    ("systemd/sysusers", "*.conf", "lib/sysusers.d"),
    ("systemd/user", "*.service", "lib/systemd/user"),
    ("man", "*.1", "share/man/man1"),
    ("man", "*.8", "share/man/man8"),
    ("completion", "*.bash", "share/bash-completion/completions"),
    ("completion", "_s3mount", "share/zsh/site-functions"),
    ("completion", "*.fish", "share/fish/vendor_completions.d"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to install at the absolute path *target*: a link to *link*, or a copy of *source*."""

    target: Path
    link: Path | None = None
    source: Path | None = None

    def is_there(self) -> bool:
        """Whether nothing is to be done."""
        try:
            if self.link is not None:
                return self.target.is_symlink() and self.target.readlink() == self.link
            assert self.source is not None
            return not self.target.is_symlink() and self.target.read_bytes() == self.source.read_bytes()
        except OSError:
            return False

    def is_ours(self) -> bool:
        """Whether what is there was put there by this command, of whatever version."""
        if self.link is not None:
            return self.target.is_symlink() and self.target.readlink().name == "s3mount"
        try:
            return not self.target.is_symlink() and b"s3mount" in self.target.read_bytes()[:400]
        except OSError:
            return False

    def put(self) -> None:
        """Make it, in one step for whoever looks. Raises: OSError."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.target.with_name(f".{self.target.name}.{os.getpid()}")
        try:
            if self.link is not None:
                temporary.symlink_to(self.link)
            else:
                assert self.source is not None
                shutil.copyfile(self.source, temporary)
                temporary.chmod(0o644)
            temporary.replace(self.target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def __str__(self) -> str:
        return f"{self.target} -> {self.link}" if self.link is not None else str(self.target)


def add_parser(commands: Commands) -> None:
    """Add the command to *commands*."""
    parser = commands.add_parser(
        "install",
        help="put helpers of mount(8), systemd units, man pages and completions in place (root)",
        usage="sudo s3mount install [--dry-run] [--uninstall] [--root DIR]",
        description=wrapped(_DESCRIPTION),
    )
    parser.set_defaults(run=run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--uninstall", action="store_true", help="take all of it away again")
    parser.add_argument(
        "--prefix",
        type=Path,
        default=Path("/usr/local"),
        metavar="DIR",
        help="for packages: where units, pages and completions go [/usr/local]",
    )
    parser.add_argument(
        "--program",
        type=Path,
        metavar="FILE",
        help="for packages: what the links lead to [this program]",
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="for packages: treat DIR as / [/]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Install or uninstall.

    Raises: StartupError.
    """
    root = Path(os.path.abspath(arguments.root))
    path = arguments.program or program()
    items = list(items_of(root, path, arguments.prefix))
    if not arguments.uninstall and arguments.program is None and (owner := others_in(path)) is not None:
        print(
            f"s3mount: {path} can be changed by user {owner}, who is root then at the next mount: "
            "better install s3mount as root, in /opt/s3mount say",
            file=sys.stderr,
        )
    change = _removed if arguments.uninstall else _put
    changed = [item for item in items if change(item, arguments.dry_run)]
    is_here = root == Path("/")
    made = is_here and not arguments.uninstall and make_user(is_dry=arguments.dry_run)
    if is_here and arguments.uninstall and user_exists():
        print(f"s3mount: leaving user {SYSTEM_USER}: files in {STATE} are its own (userdel {SYSTEM_USER})")
    if not changed and not made:
        print("s3mount: nothing to do")
    elif any("/systemd/" in str(item.target) for item in changed) and is_here:
        print("s3mount: now let systemd see the units: systemctl daemon-reload")
    return int(Exit.OK)


def user_exists() -> bool:
    """Whether this machine has the user that mounts of root's run as."""
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def make_user(*, is_dry: bool) -> bool:
    """Make the user that mounts of root's run as; return whether there was anything to do.

    Raises: StartupError (useradd failed).
    """
    if user_exists():
        return False
    print(f"s3mount: {'would make' if is_dry else 'making'} user {SYSTEM_USER}, whom mounts of root's run as")
    if is_dry:
        return True
    command = ["useradd", "--system", "--user-group", "--no-create-home", f"--home-dir={STATE}"]
    try:
        subprocess.run(
            [*command, f"--shell={_NO_LOGIN}", SYSTEM_USER], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise StartupError(
            f"user {SYSTEM_USER}", f"it cannot be made ({said})", "make it, then run this again", Exit.FAILURE
        ) from None
    return True


def items_of(root: Path, program: Path, prefix: Path) -> Iterator[Item]:
    """Yield all that belongs on a machine whose s3mount is *program*."""
    if program not in (Path("/usr/local/bin/s3mount"), Path("/usr/bin/s3mount")):
        yield Item(root / "usr/local/bin/s3mount", link=program)
    for name in (*MOUNT_NAMES, *UMOUNT_NAMES):
        yield Item(root / _HELPERS / name, link=program)
    for kind, pattern, place in _FILES:
        for source in sources(kind, pattern):
            name = source.name.removesuffix(".bash")
            yield Item(root / prefix.relative_to("/") / place / name, source=source)


def sources(kind: str, pattern: str) -> list[Path]:
    """Return files that came with the program: beside it in a clone, below the prefix of an installation."""
    for directory in (Path(__file__).parents[2] / kind, Path(sys.prefix) / "share/s3mount" / kind):
        if found := sorted(directory.glob(pattern)):
            return found
    raise StartupError(
        kind, "its files did not come with this program", "install s3mount again", Exit.FAILURE
    )


def program() -> Path:
    """Return the absolute path of the ``s3mount`` that runs.

    Raises: StartupError (it is run in another way, by ``python -m`` say, and is nowhere to be found).
    """
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("s3mount")
    for path in (called, beside):
        if path.name == "s3mount" and os.access(path, os.X_OK) and path.is_file():
            return _followed(Path(os.path.abspath(path)))
    found = shutil.which("s3mount")
    if found is None:
        raise StartupError("s3mount", "the program is nowhere on PATH", "pip install it first", Exit.FAILURE)
    return _followed(Path(os.path.abspath(found)))


def others_in(path: Path) -> int | None:
    """Return the id of a user other than root who can change *path* or what leads to it, None for nobody."""
    return next((owner for one in (path, *path.parents) if (owner := one.stat().st_uid) != 0), None)


def _followed(path: Path) -> Path:
    """Return where the link of an earlier installation leads."""
    return Path(os.path.realpath(path))


def _put(item: Item, is_dry: bool) -> bool:
    if item.is_there():
        return False
    if os.path.lexists(item.target) and not item.is_ours():
        raise StartupError(
            str(item.target),
            "it is there, and not of s3mount",
            "move it away, then run this again",
            Exit.FAILURE,
        )
    print(f"s3mount: {'would install' if is_dry else 'installing'} {item}")
    if not is_dry:
        _try(item, item.put)
    return True


def _removed(item: Item, is_dry: bool) -> bool:
    if not os.path.lexists(item.target):
        return False
    if not item.is_ours():
        print(f"s3mount: leaving {item.target}: it is not of s3mount")
        return False
    print(f"s3mount: {'would remove' if is_dry else 'removing'} {item.target}")
    if not is_dry:
        _try(item, item.target.unlink)
    return True


def _try(item: Item, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        advice = (
            "run it as root: sudo s3mount install" if os.geteuid() else "see whether it is mounted read-only"
        )
        raise StartupError(str(item.target), f"{error.strerror}", advice, Exit.FAILURE) from None
