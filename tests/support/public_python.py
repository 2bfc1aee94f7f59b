"""This Python, its packages and s3mount where every user can read them; root's may be in a closed home."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class PublicPython:
    """The program, and the variables with which it finds everything."""

    path: str
    environment: dict[str, str]


@contextmanager
def public_python() -> Iterator[PublicPython]:
    """Show them below a directory of their own while the block runs, by bind mounts. Needs root."""
    top = Path(tempfile.mkdtemp(prefix="s3mount-python-", dir="/tmp"))
    top.chmod(0o755)
    parts = {"python": Path(sys.base_prefix), "site": Path(sysconfig.get_path("platlib")), "root": ROOT}
    with ExitStack() as stack:
        stack.callback(top.rmdir)
        for name, source in parts.items():
            stack.enter_context(_shown(source, top / name))
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        yield PublicPython(
            str(top / "python/bin" / version),
            {
                "PYTHONHOME": str(top / "python"),
                "PYTHONPATH": os.pathsep.join(str(top / name) for name in ("root", "site")),
                "LD_LIBRARY_PATH": str(top / "python/lib"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )


@contextmanager
def _shown(source: Path, place: Path) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()
