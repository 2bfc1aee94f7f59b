"""The command line: what is understood, what is refused in one line, and the help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s3mount import __version__
from s3mount.cli.mount import EXIT_TEXTS, config_from
from s3mount.cli.parser import parse
from s3mount.config import MountConfig
from s3mount.config.options import GROUPS, OPTIONS
from s3mount.core.exits import Exit
from tests.cli.command import s3mount


def config(*arguments: str) -> MountConfig:
    """Return what ``s3mount mount ARGUMENTS`` would mount."""
    return config_from(parse(["mount", *arguments]))


def test_options_may_stand_before_between_and_after_bucket_and_directory() -> None:
    """People put them anywhere."""
    for arguments in (
        ["--ttl", "7s", "bucket/p", "/mnt"],
        ["bucket/p", "--ttl", "7s", "/mnt"],
        ["s3://bucket/p/", "/mnt", "--ttl=7"],
        ["bucket/p", "/mnt", "-o", "ttl=7s"],
        ["-ottl=7", "--", "bucket/p", "/mnt"],
    ):
        made = config(*arguments)
        assert (made.bucket, made.prefix, made.mountpoint, made.ttl_s) == ("bucket", "p/", "/mnt", 7.0)


def test_the_last_of_an_option_counts_in_whichever_way_it_was_written() -> None:
    """So that a wrapper's options can be overridden by adding to them."""
    assert config("bucket", "/mnt", "--ttl=1", "-o", "ttl=2").ttl_s == 2.0
    assert config("bucket", "/mnt", "-o", "ttl=2", "--ttl=1").ttl_s == 1.0


def test_the_names_of_the_aws_command_line() -> None:
    """Where the AWS CLI has an option, it has the same name here."""
    server = ("--endpoint-url", "http://127.0.0.1:9000", "--region", "eu-north-1")
    made = config("bucket", "/mnt", *server, "--no-sign-request", "--no-verify-ssl")
    assert (made.endpoint_url, made.region) == ("http://127.0.0.1:9000", "eu-north-1")
    assert not made.sign_requests
    assert not made.verify_ssl
    profiled = config("bucket", "/mnt", "--profile", "p", "--ca-bundle", "/ca.pem")
    assert (profiled.profile, profiled.ca_bundle) == ("p", "/ca.pem")


def test_a_relative_directory_becomes_absolute_with_its_links_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount table speaks of resolved paths only."""
    (tmp_path / "real" / "dir").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/dir")
    monkeypatch.chdir(tmp_path)
    assert config("bucket", "link").mountpoint == str((tmp_path / "real" / "dir").resolve())
    assert config("bucket", "./link/../absent/").mountpoint == str(tmp_path.resolve() / "absent")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ([], Exit.USAGE, ["the command is missing"]),
        (["mont"], Exit.USAGE, ["command mont", "did you mean mount?"]),
        (["mount"], Exit.USAGE, ["BUCKET[/PREFIX]", "`s3mount mount --help`"]),
        (["mount", "bucket"], Exit.USAGE, ["DIR"]),
        (["mount", "bucket", "/a", "/b"], Exit.USAGE, ["/b", "one too many"]),
        (
            ["mount", "bucket", "/a", "--memmory=1G"],
            Exit.USAGE,
            ["option --memmory", "did you mean --memory?"],
        ),
        (["mount", "bucket", "/a", "--mem=1G"], Exit.USAGE, ["option --mem"]),
        (["mount", "bucket", "/a", "--ttl"], Exit.USAGE, ["--ttl"]),
        (["mount", "bucket", "/a", "--ttl", "soon"], Exit.USAGE, ["option --ttl", "'soon'"]),
        (["mount", "bucket", "/a", "--uid", "no-such-user"], Exit.USAGE, ["--uid", "no user"]),
        (["mount", "bucket", "/a", "-o", "allow_othr"], Exit.USAGE, ["did you mean allow_other?"]),
        (["mount", "bucket", "/a", "--block-size=3M"], Exit.CONFIG, ["--block-size", "power of two"]),
        (["mount", "b", "/a"], Exit.CONFIG, ['bucket "b"']),
        (["umount"], Exit.USAGE, ["directory"]),
        (["umount", "/a", "--timeout=never"], Exit.USAGE, ["--timeout", "'never'"]),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], code: Exit, parts: list[str]) -> None:
    """It names what is wrong and the next step."""
    outcome = s3mount(*arguments)
    assert outcome.exit_code == code
    assert outcome.stdout == ""
    for part in parts:
        assert part in outcome.line


def test_keys_on_the_command_line_are_refused_without_repeating_them() -> None:
    """The message may end up in a log that more people read."""
    outcome = s3mount("mount", "bucket", "/a", "--secret-access-key=hunter2")
    assert outcome.exit_code == Exit.USAGE
    assert "--credentials-file" in outcome.line
    assert "hunter2" not in outcome.stderr


def test_version() -> None:
    """On standard output, so that scripts can read it."""
    assert s3mount("--version").stdout == f"s3mount {__version__}\n"


def test_the_help_has_every_group_option_default_and_exit_code() -> None:
    """In one place, with units."""
    outcome = s3mount("mount", "--help", environment={"COLUMNS": "1000"})
    assert outcome.exit_code == 0
    for title in GROUPS:
        assert f"{title}:" in outcome.stdout
    for option in OPTIONS:
        assert f"--{option.name}" in outcome.stdout
        default = option.describe_default()
        assert default is None or f"[{default}]" in outcome.stdout
    assert set(EXIT_TEXTS) == set(Exit)
    for code, text in EXIT_TEXTS.items():
        assert f"{code.value:>2}  {text}\n" in outcome.stdout + "\n"


def test_the_overview_is_short_and_names_every_command() -> None:
    """It fits a window."""
    outcome = s3mount("--help")
    assert len(outcome.stdout.splitlines()) <= 34
    for command in ("mount", "umount", "demo"):
        assert f"s3mount {command}" in outcome.stdout


def test_the_help_loads_nothing_that_is_slow_to_load() -> None:
    """boto3 alone takes longer than everything else together."""
    code = (
        "import sys; from s3mount.cli import main\n"
        "try: main(['mount', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'boto3', 'botocore', 'trio', 'pyfuse3', 'pyarrow'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("show", [False, True])
def test_a_bug_is_one_line_unless_the_traceback_is_asked_for(show: bool) -> None:
    """With its place, so that it can be reported, and without secrets."""
    code = (
        "import sys; from s3mount import cli\n"
        "def parse(argv): raise KeyError('secret_key=hunter2hunter2')\n"
        "cli.parse = parse; sys.exit(cli.main(['mount']))"
    )
    environment = {"S3MOUNT_TRACEBACK": "1"} if show else {}
    outcome = s3mount(launcher=[sys.executable, "-c", code], environment=environment)
    assert outcome.exit_code == Exit.FAILURE
    if show:
        assert "Traceback" in outcome.stderr
    else:
        assert outcome.line.startswith(
            "bug: 'secret_key=[hidden]' (KeyError at <string>:2); please report it"
        )
