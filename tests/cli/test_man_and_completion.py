"""man/ and completion/ say what the command line says, and their readers take them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    """Return what *command* prints. Raises: AssertionError if it complains."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_files_are_those_that_the_command_line_makes() -> None:
    """After a change of an option: docs/make_man.py."""
    spec = importlib.util.spec_from_file_location("make_man", ROOT / "docs/make_man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.render().items():
        assert path.read_text() == text, f"{path.name} is not what docs/make_man.py writes"


@pytest.mark.parametrize("page", ["s3mount.1", "mount.s3mount.8"])
def test_troff_has_nothing_against_the_pages(page: str) -> None:
    """And the words are there."""
    text = run("groff", "-man", "-ww", "-Kutf8", "-Tutf8", f"man/{page}")
    assert "s3mount" in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["s3mount", ""], {"mount", "umount", "list", "status", "spool"}),
        (["s3mount", "mount", "--wri"], {"--write-back"}),
        (["s3mount", "spool", "pu"], {"push"}),
    ],
)
def test_bash_completes(words: list[str], wanted: set[str]) -> None:
    """Commands, options and commands of commands."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        "source completion/s3mount.bash; "
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE='{' '.join(words)}'; COMP_POINT=${{#COMP_LINE}}; "
        f"_shtab_s3mount s3mount '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    assert wanted <= set(run("bash", "--norc", "-c", script).split())


def test_fish_completes() -> None:
    """With what each is for."""
    script = (
        'source completion/s3mount.fish; complete -C "s3mount mount --write"; complete -C "s3mount spool pu"'
    )
    first, second = run("fish", "--no-config", "-c", script).splitlines()
    assert first.startswith("--write-back\tclose() returns when")
    assert second.startswith("push\t")


def test_zsh_takes_its_file() -> None:
    """Syntax and function name."""
    assert run(
        "zsh",
        "-fc",
        "autoload -Uz compinit; source completion/_s3mount 2>/dev/null; whence -w _shtab_s3mount",
    )
