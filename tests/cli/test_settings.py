"""What can be changed while it is mounted: which options, from which file, and what is said of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from s3mount.cli.mount import config_file
from s3mount.cli.parser import parse
from s3mount.config import files, make_config
from s3mount.config.files import ConfigSource
from s3mount.config.mount_options import Chosen
from s3mount.control.protocol import ControlError
from s3mount.core.exits import Exit
from s3mount.settings import Settings
from tests.cli.command import s3mount


class Mounted:
    """A configuration that could be a mount's, and what is carried out of its changes."""

    def __init__(self, source: ConfigSource | None = None, **values: Any) -> None:
        self.applied: dict[str, Any] = {}
        self.forgotten = self.renewed = 0
        names = ("log-level", "ttl", "negative-ttl", "memory", "spool-cap")
        self.settings = Settings(
            make_config("bucket", "/mnt", values) if source is None else source.config,
            {name: self._hook(name) for name in names},
            forget=self._forget,
            renew=self._renew,
            source=source,
        )

    def _hook(self, name: str) -> Any:
        return lambda value: self.applied.update({name: value})

    async def _forget(self) -> None:
        self.forgotten += 1

    async def _renew(self) -> bool:
        self.renewed += 1
        return False

    def change(self, **texts: str) -> list[dict[str, str]]:
        """Change options, `_` for `-`."""
        changed: list[dict[str, str]] = trio.run(self.settings.change, texts)["changed"]
        return changed

    def reload(self) -> Mapping[str, Any]:
        """Do what SIGHUP does."""
        return trio.run(self.settings.reload)


def source(path: Path, *arguments: str) -> ConfigSource:
    """Return the source of `s3mount mount --config PATH ARGUMENTS`."""
    parsed = parse(["mount", "--config", str(path), *arguments])
    chosen = parsed.chosen or Chosen()
    file = config_file(parsed, chosen)
    assert file is not None
    config = files.configure(file, chosen, file.source or "bucket", file.mountpoint or "/mnt")
    return ConfigSource(file, chosen, config)


def test_options_are_changed_by_name_and_said() -> None:
    """As on the command line, with dashes or underscores; what is so already is no change."""
    mounted = Mounted(ttl_s=5.0)
    assert mounted.change(ttl="1m", spool_cap="1G", log_level="info") == [
        {"name": "ttl", "was": "5s", "now": "1m"},
        {"name": "spool-cap", "was": "none", "now": "1 GiB"},
    ]
    assert mounted.applied == {"ttl": 60.0, "spool-cap": 1 << 30}
    assert mounted.change(spool_cap="none") == [{"name": "spool-cap", "was": "1 GiB", "now": "none"}]
    assert mounted.applied["spool-cap"] is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"ttl": "1m", "memory": "1K"}, "--memory: 1 KiB is out of range"),
        ({"ttl": "1m", "memory": "much"}, "memory: 'much' is no size"),
        ({"ttl": "1m", "memmory": "64M"}, "memmory: there is no such option; did you mean memory"),
        (
            {"ttl": "1m", "part-size": "8M"},
            "part-size: it cannot be changed while it is mounted; .*ttl",
        ),
        ({"ttl": "none"}, "ttl: 'none' is no time"),
    ],
)
def test_what_cannot_be_is_refused_and_then_nothing_is_changed(texts: dict[str, str], said: str) -> None:
    """All or none."""
    mounted = Mounted()
    with pytest.raises(ControlError, match=said):
        mounted.change(**texts)
    assert mounted.applied == {}


def test_less_memory_takes_the_read_ahead_along() -> None:
    """Otherwise the default of one option would forbid the other."""
    mounted = Mounted(memory_bytes=512 << 20)
    mounted.change(memory="16M")
    assert mounted.settings.config.read_ahead_bytes == 16 << 20


def test_only_a_shorter_time_to_live_forgets_what_is_known() -> None:
    """A longer one holds for what is asked from then on."""
    mounted = Mounted(ttl_s=5.0, negative_ttl_s=2.0)
    mounted.change(ttl="1m")
    assert mounted.forgotten == 0
    mounted.change(ttl="10s")
    mounted.change(negative_ttl="1s")
    assert mounted.forgotten == 2


def test_without_a_file_only_the_credentials_are_looked_for_again() -> None:
    """What `set` has changed stays."""
    mounted = Mounted()
    mounted.change(ttl="1m")
    assert mounted.reload() == {"changed": [], "kept": [], "has_new_credentials": False}
    assert (mounted.renewed, mounted.settings.config.ttl_s) == (1, 60.0)


def test_a_file_that_is_read_again_changes_what_can_be_and_names_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The command line still overrules it, and what it says no more goes back to its default."""
    path = tmp_path / "photos.toml"
    start = 'bucket = "photos"\nmountpoint = "/srv"\n'
    path.write_text(start + 'ttl = "1m"\nnegative-ttl = "1m"\nspool-cap = "1G"\n')
    mounted = Mounted(source(path, "--spool-cap=2G"))
    assert mounted.settings.config.spool_cap_bytes == 2 << 30
    assert mounted.reload()["changed"] == []
    mounted.change(ttl="2m")
    path.write_text(
        'bucket = "other"\nmountpoint = "/elsewhere"\nttl = "10s"\nspool-cap = "3G"\n'
        "read-only = true\nnoexec = true\n"
    )
    with caplog.at_level(logging.WARNING):
        answer = mounted.reload()
    assert answer["changed"] == [
        {"name": "ttl", "was": "2m", "now": "10s"},
        {"name": "negative-ttl", "was": "1m", "now": "2s"},
    ]
    assert answer["kept"] == ["read-only", "bucket", "mountpoint", "noexec"]
    for name in answer["kept"]:
        assert f"{name} cannot be changed while it is mounted: it stays as it was" in caplog.text
    assert mounted.settings.config.spool_cap_bytes == 2 << 30
    path.write_text(start)
    assert mounted.reload()["changed"] == [{"name": "ttl", "was": "10s", "now": "5s"}]


def test_a_file_with_faults_changes_nothing(tmp_path: Path) -> None:
    """Nor does one that is gone; the credentials were looked for all the same."""
    path = tmp_path / "photos.toml"
    path.write_text('bucket = "photos"\nmountpoint = "/srv"\nttl = "1m"\n')
    mounted = Mounted(source(path))
    path.write_text('bucket = "photos"\nmountpoint = "/srv"\nttl = "10s"\nmemory = "1K"\n')
    with pytest.raises(ControlError, match=f"{path}:4: memory: 1 KiB is out of range"):
        mounted.reload()
    path.unlink()
    with pytest.raises(ControlError, match="cannot be read"):
        mounted.reload()
    assert mounted.applied == {}
    assert (mounted.renewed, mounted.settings.config.ttl_s) == (2, 60.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/mnt"], "there is nothing to set"),
        (["/mnt", "ttl=1s", "--reload"], "--reload goes without"),
        (["/mnt", "ttl=1s", "memory"], "argument memory: this is no NAME=VALUE"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], said: str) -> None:
    """Before any mount is looked for."""
    outcome = s3mount("set", *arguments)
    assert outcome.exit_code == Exit.USAGE
    assert said in outcome.line
