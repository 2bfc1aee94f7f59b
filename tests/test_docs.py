"""The documentation: its commands work, its tables are the code's, its links lead somewhere."""

from __future__ import annotations

import ast
import errno
import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import s3mount.errors
from s3mount.cli.mount import config_from
from s3mount.cli.parser import parse
from s3mount.errors import FsError
from tests.conftest import ServerPool
from tests.support.mounting import connection_number, mounts_below
from tests.support.servers import Server

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("systemd/*.md"), *ROOT.glob("bench/*.md")]
)
README = ROOT / "README.md"
RUN_S = 90.0

#: Programs of the shell blocks that are neither ours nor worth a look.
FOREIGN = {
    *("aws", "cat", "chmod", "cp", "crontab", "df", "export", "fusermount3", "getfattr", "journalctl"),
    *("loginctl", "ls", "mkdir", "python3", "sudo", "systemctl", "systemd-analyze"),
}


@dataclass(frozen=True)
class Block:
    """A fenced ``sh`` block of a page."""

    page: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        """The page and line, for the test's name."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Return its commands as words; comments and continuation lines are understood."""
        text = self.text.replace("\\\n", " ")
        return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the ``sh`` blocks of *page*."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, match.start()) + 1, match[1])


BLOCKS = [block for page in PAGES for block in blocks(page)]
MOUNTING = [block for block in BLOCKS if block.page == README and "s3mount mount " in block.text]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_commands_exist_and_their_options_are_known(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every `s3mount` command parses, with all its values; every script named is there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    _write_configuration(block.page, tmp_path / ".config" / "s3mount")
    for words in block.commands():
        program = Path(words[0])
        if program.name == "s3mount":
            arguments = parse(words[1:])
            if words[1] == "mount":
                config_from(arguments)
        elif len(program.parts) > 1 and not words[0].startswith(("~", "/")):
            assert os.access(ROOT / program, os.X_OK), f"{program} is no script here"
        else:
            assert program.name in FOREIGN | {"pip"}, f"is {words[0]} right? Then add it to FOREIGN"


def _write_configuration(page: Path, directory: Path) -> None:
    """Let the configuration that *page* shows be the one that its commands name."""
    directory.mkdir(parents=True)
    for match in re.finditer(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if match[1].startswith("bucket = "):
            (directory / "photos.toml").write_text(match[1], encoding="utf-8")


def test_the_readme_has_the_blocks_that_are_run() -> None:
    """A change of the README's form must not make its test empty."""
    assert len(MOUNTING) >= 3


@pytest.mark.parametrize("block", MOUNTING, ids=lambda block: block.name)
def test_mounting_as_the_readme_says_works(block: Block, server_pool: ServerPool, tmp_path: Path) -> None:
    """The README's blocks run as they stand, with a MinIO here in the place of AWS and of the user's own."""
    server = server_pool.get("minio")
    home = tmp_path / "home"
    home.mkdir()
    buckets = _prepare_buckets(server, block)
    shell = subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", _substituted(block.text, server)],
        env=_environment(server, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = shell.communicate(timeout=RUN_S)
    except subprocess.TimeoutExpired:
        _cut_off(home)
        shell.kill()
        output, _ = shell.communicate()
        raise AssertionError(f"took longer than {RUN_S:g} s:\n{output}") from None
    finally:
        left = mounts_below(home)
        for mountpoint in left:
            subprocess.run(["umount", "-l", mountpoint], capture_output=True)
    assert shell.returncode == 0, output
    assert left == []
    if "cp /etc/services" in block.text:
        answer = server.client().get_object(Bucket=buckets[0], Key="services")
        assert answer["Body"].read() == Path("/etc/services").read_bytes()


def _prepare_buckets(server: Server, block: Block) -> list[str]:
    """Create the buckets that *block* mounts, the ones without keys open to everybody."""
    client = server.client()
    names = []
    for words in block.commands():
        if words[:2] != ["s3mount", "mount"]:
            continue
        bucket = words[2].removeprefix("s3://").partition("/")[0]
        names.append(bucket)
        if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        if "--no-sign-request" in words:
            everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
            statement = {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": everything,
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return names


def _substituted(text: str, server: Server) -> str:
    changes = {
        "http://127.0.0.1:9000": server.endpoint_url,
        "your-access-key": server.access_key,
        "your-secret-key": server.secret_key,
    }
    for written, real in changes.items():
        text = text.replace(written, real)
    return text


def _environment(server: Server, home: Path) -> dict[str, str]:
    """Give the profile `work`, and AWS_ENDPOINT_URL so that AWS is the server under test."""
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        f"[work]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "LC_ALL": "C.UTF-8",
    }


def _cut_off(base: Path) -> None:
    """Abort the FUSE connections of all mounts under *base*: what hangs in them can be killed then."""
    for mountpoint in mounts_below(base):
        connection = Path("/sys/fs/fuse/connections") / connection_number(Path(mountpoint))
        (connection / "abort").write_text("1")


def test_the_page_of_options_is_what_the_table_says() -> None:
    """docs/options.md is made from the table: after a change run docs/make_options.py."""
    render = runpy.run_path(str(ROOT / "docs" / "make_options.py"))["render"]
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == render()


def test_the_pictures_are_what_their_tables_say() -> None:
    """The pictures are made by docs/make_pictures.py: run it after a change of its tables."""
    pictures = runpy.run_path(str(ROOT / "docs" / "make_pictures.py"))["pictures"]()
    assert pictures
    for name, text in pictures.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text


def test_the_screens_are_made_by_their_script() -> None:
    """docs/make_screens.py makes each of them, of what the commands would say.

    They are not compared: each version of rich draws a little differently.
    """
    screens = runpy.run_path(str(ROOT / "docs" / "make_screens.py"))["screens"]()
    assert screens.keys() == {"status.svg", "top.svg", "doctor.svg"}
    for name, text in screens.items():
        assert text.startswith("<svg")
        assert (ROOT / "docs" / name).read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize("name", ["architecture.md", "read-path.svg", "write-path.svg", "make_pictures.py"])
def test_modules_that_are_named_exist(name: str) -> None:
    """Every `layer/module.py` of the pages for developers is there, and every class beside one too."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    modules = set(re.findall(r"\b((?:core|store|data|meta|fs|fuse|control|cli|config)/\w+\.py)\b", text))
    assert modules
    for module in modules:
        assert (ROOT / "s3mount" / module).exists(), module
    for module, member in re.findall(r"(\w+/\w+\.py)`?,? +`?([A-Z]\w+\.\w+)", text):
        cls, method = member.split(".")
        source = (ROOT / "s3mount" / module).read_text(encoding="utf-8")
        assert re.search(rf"^class {cls}\b", source, re.MULTILINE), f"{module} has no {cls}"
        assert re.search(rf"^    (async )?def {method}\b", source, re.MULTILINE), f"{cls} has no {method}"


def _error_classes() -> dict[str, set[str]]:
    """Return the names of the error classes by the name of their errno."""
    found: dict[str, set[str]] = {}
    for name, value in vars(s3mount.errors).items():
        if isinstance(value, type) and issubclass(value, FsError):
            found.setdefault(errno.errorcode[value.errno], set()).add(name)
    return found


def test_the_table_of_errors_is_that_of_the_code() -> None:
    """Every errno that s3mount raises is in docs/semantics.md with the system's text and its classes."""
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (E[A-Z]+) \| (.*?) \| .*? \| (.*?) \|$", text, re.MULTILINE)
    assert {row[0]: set(re.findall(r"`(\w+)`", row[2])) for row in rows} == _error_classes()
    assert {row[0]: row[1] for row in rows} == {row[0]: os.strerror(getattr(errno, row[0])) for row in rows}


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of *page*."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that exists, and a heading in it where it has an anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or anchor in _anchors(linked), f"{target} has no such heading"


def test_every_page_is_linked() -> None:
    """No page under docs/ is out of the reader's reach."""
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for page in PAGES:
        if page.parent.name == "docs":
            assert re.search(rf"\]\((docs/)?{re.escape(page.name)}(#[^)]*)?\)", texts), page


# Troubleshooting

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
#: Stands in a quoted message for what the code fills in.
HOLE = "…"


def _quoted_messages() -> list[str]:
    """Return the messages that docs/troubleshooting.md explains: what begins the rows of its tables."""
    if not TROUBLESHOOTING.exists():
        return []
    return re.findall(r"^\| `(.+?)` \| ", TROUBLESHOOTING.read_text(encoding="utf-8"), re.MULTILINE)


def _literals(node: ast.AST) -> Iterator[str]:
    """Yield the string literals of a module, with `…` for what an f-string or % fills in."""
    for child in ast.walk(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else HOLE for part in child.values
            )
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield re.sub(r"%[sdr]|%\.0f", HOLE, child.value)


@functools.cache
def _said_by_the_code() -> list[str]:
    """Return every string of s3mount that may be a message or a part of one."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "s3mount").rglob("*.py")))
    return [text for tree in trees for text in _literals(tree)]


def _is_said(message: str, literals: list[str]) -> bool:
    """Whether *message* is one literal, or `thing: cause` of two (a hole stands for anything)."""
    thing, colon, cause = message.partition(": ")
    wanted = [message] if not colon else [cause]
    if message in literals:
        return True
    things = not colon or any(_fits(thing, literal) for literal in literals)
    return things and all(any(_fits(part, literal) for literal in literals) for part in wanted)


def _fits(written: str, literal: str) -> bool:
    """Whether *written* is *literal*, or a beginning of it, or what one of its holes may hold with it."""
    pieces = [re.escape(piece) for piece in written.split(HOLE)]
    return re.fullmatch(".*".join(pieces) + rf"(?:{HOLE}.*|[,;: ].*)?", literal) is not None


MESSAGES = _quoted_messages()


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_the_troubleshooting_page_exist(message: str) -> None:
    """Every message that the page explains is still one that the code can say."""
    assert _is_said(message, _said_by_the_code()), f"nothing says {message!r}"


def test_a_message_that_nothing_says_is_noticed() -> None:
    """The comparison above can fail."""
    literals = _said_by_the_code()
    assert len(MESSAGES) > 70
    assert not _is_said("mountpoint …: it is haunted", literals)
    assert not _is_said("ghost …: it does not exist", literals)
    assert not _is_said("upload of … went wrong (…); its bytes are in …", literals)


def test_the_troubleshooting_page_explains_every_warning() -> None:
    """Every line that the daemon logs at WARNING or ERROR is an entry of the page."""
    missing = []
    for path in sorted((ROOT / "s3mount").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in ("warning", "error", "exception", "critical")
                and isinstance(call.func.value, ast.Name)
                and call.func.value.id == "log"
            ):
                text = next(_literals(call.args[0]))
                if text != HOLE and text not in MESSAGES:
                    missing.append(f"{path.relative_to(ROOT)}: {text}")
    assert missing == []
