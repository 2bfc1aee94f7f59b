"""Configuration files: what they may say, what is refused and where, and what overrules them."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3mount.cli.mount import config_from
from s3mount.cli.parser import parse
from s3mount.config import MountConfig, files, machine
from s3mount.config.options import OPTIONS
from s3mount.config.statements import Statement, SyntaxFault, statements
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from tests.cli.command import ROOT, Outcome, s3mount

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a configuration of this user's, or of the machine's, which are the test's own directories."""
    own, etc = tmp_path / "xdg" / "s3mount", tmp_path / "etc" / "s3mount"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(files, "config_dirs", lambda: [own, etc])

    def write_one(text: str, name: str = "photos", *, is_etc: bool = False) -> Path:
        directory = etc if is_etc else own
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}.toml"
        path.write_text(text)
        return path

    return write_one


def config(*arguments: str | Path) -> MountConfig:
    """Return what ``s3mount mount ARGUMENTS`` would mount."""
    return config_from(parse(["mount", *map(str, arguments)]))


def command(tmp_path: Path, *arguments: str | Path) -> Outcome:
    """Run ``s3mount config ARGUMENTS`` with the test's directory as the user's."""
    return s3mount("config", *arguments, environment={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})


def faults(path: Path) -> list[str]:
    """Return what is wrong with a file, without its path."""
    return [str(fault).removeprefix(f"{path}:") for fault in files.check(path)]


PLACES = 'bucket = "photos/2024"\nmountpoint = "/srv/photos"\n'


def test_a_file_has_bucket_mountpoint_and_options(write: Write) -> None:
    """With dashes or underscores, as text, numbers and booleans."""
    path = write(
        PLACES + 'ttl = "1m"\nmemory = "512M"\nread-only = true\nnegative_ttl = 0.5\nattempts = 7\n'
        'part-size = 8388608\nno-verify-ssl = false\nfile-mode = "0640"\nuid = 12\n'
        "noexec = true\nwrite-back = true\n"
    )
    made = config("--config", "photos")
    assert (made.bucket, made.prefix, made.mountpoint) == ("photos", "2024/", "/srv/photos")
    assert (made.ttl_s, made.negative_ttl_s, made.attempts) == (60.0, 0.5, 7)
    assert (made.memory_bytes, made.part_size, made.file_mode) == (512 << 20, 8 << 20, 0o640)
    assert made.read_only
    assert made.verify_ssl
    assert (made.uid, made.write_back_s) == (12, 5.0)
    assert made.mount_options == ("nosuid", "nodev", "noexec")
    assert config("--config", path) == made


def test_every_option_of_the_table_can_stand_in_a_file_with_the_value_that_help_shows(write: Write) -> None:
    """One table: what the command line takes, a file takes."""
    for option in OPTIONS:
        default = option.default_value()
        if option.is_switch:
            line = f"{option.name} = true"
        elif default is not None and option.default_text is None:
            line = f"{option.name} = {json.dumps(option.show(default))}"
        else:
            continue
        file = files.load(write(line))
        assert file.faults == [], line
        assert file.chosen.values == {option.field: option.switch_to if option.is_switch else default}


def test_the_command_line_and_dash_o_overrule_the_file(write: Write) -> None:
    """Wherever --config stands; BUCKET and DIR too, and one word alone is DIR."""
    write(PLACES + 'ttl = "1m"\nro = true\nnoexec = true\n')
    assert config("--ttl", "7s", "--config", "photos").ttl_s == 7.0
    assert config("--config=photos", "-o", "rw,exec").mount_options == ("nosuid", "nodev")
    assert not config("--config=photos", "-o", "rw").read_only
    moved = config("--config", "photos", "/mnt")
    assert (moved.bucket, moved.mountpoint) == ("photos", "/mnt")
    other = config("other", "--config", "photos", "/mnt", "--ttl=1")
    assert (other.bucket, other.prefix, other.mountpoint, other.ttl_s) == ("other", "", "/mnt", 1.0)
    assert config("other", "/mnt", "-o", "config=photos,rw").ttl_s == 60.0


def test_a_users_own_file_goes_before_the_machines(write: Write) -> None:
    """And the machine's is found where the user has none."""
    write(PLACES, is_etc=True)
    assert config("--config", "photos").bucket == "photos"
    write('bucket = "mine"\nmountpoint = "/mnt"\n')
    assert config("--config", "photos").bucket == "mine"


def test_where_the_directories_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG's, or ~/.config, and /etc/s3mount."""
    monkeypatch.setenv("HOME", "/home/u")
    etc = Path("/etc/s3mount")
    assert machine.config_dirs({"XDG_CONFIG_HOME": "/xdg"}) == [Path("/xdg/s3mount"), etc]
    assert machine.config_dirs({"XDG_CONFIG_HOME": "relative"}) == [Path("/home/u/.config/s3mount"), etc]


def test_a_name_that_is_not_there_gets_the_nearest_that_is(write: Write) -> None:
    """And the places where it was looked for."""
    write(PLACES, is_etc=True)
    with pytest.raises(StartupError, match=r"there is no .*photo\.toml and no .*; did you mean photos\?"):
        config("--config", "photo")
    with pytest.raises(StartupError, match="no name of a configuration"):
        config("--config", "pho tos")
    with pytest.raises(StartupError, match="cannot be read"):
        config("--config", "./absent.toml")


def test_what_neither_the_file_nor_the_command_line_says_is_asked_for(write: Write) -> None:
    """By the name that it has in the file."""
    write('bucket = "photos"\n')
    with pytest.raises(StartupError, match=r'says no mountpoint.*mountpoint = "/srv/photos"'):
        config("--config", "photos")
    assert config("--config", "photos", "/mnt").bucket == "photos"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('memmory = "1G"', "memmory: there is no such option; did you mean memory?"),
        ("read_onyl = true", "read_onyl: there is no such option; did you mean read_only?"),
        ('buket = "x"', "buket: there is no such option; did you mean bucket?"),
        ('ttl = "soon"', "ttl: 'soon' is no time"),
        ("ttl = soon", "this is no TOML (invalid value)"),
        ("ttl", "this is no TOML ("),
        ("ttl = 2026-01-01", 'ttl: its value is of the wrong kind; write for example ttl = "5s"'),
        ("ttl = true", "ttl: its value is of the wrong kind"),
        ("memory = 1.5", "memory: its value is of the wrong kind"),
        (
            "file-mode = 0o644",
            'file-mode: its value is of the wrong kind; write for example file-mode = "0644"',
        ),
        ('read-only = "yes"', "read-only: it is neither true nor false"),
        ("nosuid = false", "nosuid: refused, since"),
        ('attributes = "exct"', "attributes: 'exct' is none of list, auto, exact; did you mean exact?"),
        ('spool-dir = "spool"', "spool-dir: 'spool' is no absolute path"),
        ('mountpoint = "mnt"', "mountpoint: 'mnt' is no absolute path"),
        ("bucket = 3", 'bucket: it is no text; write for example bucket = "photos/2024"'),
        ('bucket = "b"', 'bucket "b": this is no bucket'),
        ('bucket = "https://host/b"', "bucket: this is no bucket"),
        ('endpoint-url = "minio:9000"', "endpoint-url minio:9000: this is no http"),
        ('block-size = "3M"', "block-size: 3145728 is no power of two"),
        ('memory = "1K"', "memory: 1 KiB is out of range"),
        ("[photos]", "there are no sections"),
        ('a.b = "c"', "a: there is no such option"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(write: Write, line: str, said: str) -> None:
    """Whatever is wrong: the name, the value, its kind, what it does to the others."""
    (fault,) = faults(write(f"# comment\n\n{line}\n"))
    assert fault.startswith(f"3: {said}")


def test_all_faults_are_found_and_none_hides_another(write: Write) -> None:
    """Syntax, names, values and what does not fit together; also behind a text of several lines."""
    path = write(
        'ttl = soon\nmemmory = "1G"\nfsname = """a\nb = 3\n"""\nread-only = 1\n'
        'allow-other = true\nallow-root = true\nblock-size = "3M"\nread_only = true\n'
    )
    assert [fault.split(";")[0] for fault in faults(path)] == [
        "1: this is no TOML (invalid value)",
        "2: memmory: there is no such option",
        "6: read-only: it is neither true nor false",
        "10: read_only: it is in line 6 already",
        "8: allow-root: --allow-other lets everybody in already",
        "9: block-size: 3145728 is no power of two",
    ]
    with pytest.raises(StartupError, match="`s3mount config check` shows 3 more") as caught:
        config("--config", path, "bucket", "/mnt")
    assert caught.value.exit_code == Exit.CONFIG


def test_a_value_that_the_command_line_overrules_is_not_blamed_on_the_file(write: Write) -> None:
    """The message leads to what has to be changed."""
    path = write(PLACES + 'block-size = "1M"\nmemory = "1K"\n')
    with pytest.raises(StartupError, match=re.escape(f"{path}:4: memory: 1 KiB is out of range")):
        config("--config", path)
    with pytest.raises(StartupError, match="^--memory: 2 KiB is out of range"):
        config("--config", path, "--memory=2K")
    assert config("--config", path, "--memory=64M").memory_bytes == 64 << 20


@pytest.mark.parametrize("key", ["secret_access_key", "aws-session-token", "password"])
def test_keys_in_a_file_are_refused_and_not_repeated(write: Write, key: str) -> None:
    """Configurations are copied, put under version control and shown to others."""
    (fault,) = faults(write(f'{key} = "hunter2"\n'))
    assert f"1: {key}: keys are never taken from a configuration file" in fault
    assert "hunter2" not in fault


def test_a_file_that_others_can_change_is_refused(write: Write) -> None:
    """They could send this user's keys to a server of their own."""
    path = write(PLACES, is_etc=True)
    path.chmod(0o646)
    (fault,) = faults(path)
    assert "other users can write to it" in fault
    path.chmod(0o644)
    assert faults(path) == []
    path.parent.chmod(0o777)
    assert "configuration directory" in faults(path)[0]
    path.parent.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, 12345, 0)
        assert "belongs to another user" in faults(path)[0]


def test_check_looks_at_all_files_and_prints_a_line_for_each_fault(write: Write, tmp_path: Path) -> None:
    """Exit code 3, or 0 where nothing is wrong."""
    write(PLACES, "good")
    assert command(tmp_path, "check", "good").exit_code == Exit.OK
    bad = write('ttl = "soon"\nmemmory = 1\n', "bad")
    outcome = command(tmp_path, "check")
    assert outcome.exit_code == Exit.CONFIG
    lines = [line for line in outcome.stderr.splitlines() if str(bad) in line]
    assert [line.split(": ")[1] for line in lines] == [f"{bad}:1", f"{bad}:2"]
    assert not any("good.toml" in line for line in outcome.stderr.splitlines())
    assert command(tmp_path, "check", bad).stderr.splitlines() == lines
    missing = command(tmp_path, "check", "absent", "good")
    assert (missing.exit_code, len(missing.stderr.splitlines())) == (Exit.CONFIG, 1)


def test_show_has_every_option_with_its_value_and_where_it_is_from(write: Write, tmp_path: Path) -> None:
    """default, FILE:LINE, -o and command line; as JSON in bytes and seconds."""
    path = write(PLACES + 'ttl = "1m"\nmemory = "64M"\nattempts = 7\n')
    outcome = command(tmp_path, "show", "photos", "--json", "-o", "attempts=3,noexec", "--memory=128M")
    assert outcome.exit_code == Exit.OK, outcome.stderr
    answer = json.loads(outcome.stdout)
    rows = {row["name"]: row for row in answer["options"]}
    assert answer["file"] == str(path)
    assert {option.name for option in OPTIONS} <= rows.keys()
    assert rows["ttl"] == {"name": "ttl", "value": 60.0, "text": "1m", "from": f"{path}:3"}
    assert rows["bucket"]["from"] == f"{path}:1"
    assert (rows["memory"]["value"], rows["memory"]["from"]) == (128 << 20, "command line")
    assert (rows["attempts"]["value"], rows["attempts"]["from"]) == (3, "-o")
    assert (rows["part-size"]["text"], rows["part-size"]["from"]) == ("16 MiB", "default")
    assert (rows["noexec"]["value"], rows["noexec"]["from"]) == (True, "-o")
    plain = command(tmp_path, "show", path).stdout.splitlines()
    assert plain[0].split() == ["OPTION", "VALUE", "FROM"]
    assert ["ttl", "1m", f"{path}:3"] in [line.split() for line in plain]


def test_show_without_a_file_shows_the_defaults(tmp_path: Path) -> None:
    """What --help says, on this machine."""
    outcome = command(tmp_path, "show")
    assert outcome.exit_code == Exit.OK
    assert ["read-only", "no", "default"] in [line.split() for line in outcome.stdout.splitlines()]


def test_show_refuses_what_mount_would_refuse(write: Write, tmp_path: Path) -> None:
    """In one line, with the file's."""
    path = write(PLACES + 'block-size = "3M"\n')
    outcome = command(tmp_path, "show", "photos")
    assert outcome.exit_code == Exit.CONFIG
    assert outcome.line.startswith(f"{path}:3: block-size: ")


def test_the_example_of_the_documentation_is_right(write: Write) -> None:
    """It is checked as a file is."""
    text = (ROOT / "docs" / "operations.md").read_text()
    example = text.partition("## Configuration files")[2].partition("```toml\n")[2].partition("```")[0]
    assert faults(write(example)) == []
    assert files.load(write(example)).mountpoint == "/srv/photos"


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.integers(0, 9), max_size=3),
)
KEYS = st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=12)


@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from(["", "\n", "# [x\n", ' # """\n']))
def test_statements_are_what_tomllib_says(values: dict[str, object], between: str) -> None:
    """Each key with its value, and the line in which it stands."""
    text = "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n{between}" for key, value in values.items()
    )
    text = text.replace("\x7f", "\\u007f")  # JSON leaves it, TOML does not
    found = [one for one in statements(text) if isinstance(one, Statement)]
    assert {one.key: one.value for one in found} == tomllib.loads(text)
    lines = text.split("\n")
    for one in found:
        assert lines[one.line - 1].startswith(f"{one.key} =")


LINES = st.sampled_from(
    [
        "a = 1",
        "b = 2",
        "a.c = 3",
        'd = """',
        '"""',
        "e = [",
        "]",
        "1,",
        "[f]",
        "# g",
        "",
        "h =",
        "i = 'x'",
        "é = 1",
        "\x85",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(LINES, max_size=8).map("\n".join)))
def test_what_is_no_toml_has_a_fault_and_what_is_has_none(text: str) -> None:
    """A key that stands there twice is found later; sections are refused here."""
    found = list(statements(text))
    bad = [one for one in found if isinstance(one, SyntaxFault)]
    keys = [one.key for one in found if isinstance(one, Statement)]
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert bad or len(set(keys)) < len(keys)
    else:
        assert all("no sections" in one.cause for one in bad)
        assert bad or set(parsed) == set(keys)
