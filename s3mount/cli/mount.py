"""``s3mount mount``: the command line, the checks, and then the mount in front or in the background."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3mount.cli.mount_table import resolve
from s3mount.cli.parser import Commands, wrapped
from s3mount.config import MountConfig, files
from s3mount.config.files import ConfigFile, ConfigSource
from s3mount.config.mount_options import COMMAND_LINE, Chosen
from s3mount.config.options import GROUPS, OPTIONS, Option
from s3mount.core.exits import Exit
from s3mount.errors import StartupError

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Mount BUCKET, or what is under PREFIX in it, at DIR, and return when it answers.

Keys come from the usual places (environment, ~/.aws, SSO, instance, ...) and are never written on the
command line.

With --config NAME everything can stand in ~/.config/s3mount/NAME.toml or /etc/s3mount/NAME.toml: bucket, \
mountpoint, and each option under its name. The command line and -o overrule it.

Sizes: 4096, 64M, 1GiB. Times: 5s, 1m, 500ms. Every option can also be written with -o, as in fstab.
"""

_USAGE = """\
s3mount mount BUCKET[/PREFIX] DIR [options]
       s3mount mount --config NAME [[BUCKET[/PREFIX]] DIR] [options]\
"""

_EXAMPLES = """\
examples:
  s3mount mount my-bucket /mnt/data
  s3mount mount s3://my-bucket/photos ~/photos --endpoint-url http://127.0.0.1:9000
  s3mount mount my-bucket /mnt/data -o ro,allow_other,uid=1000,ttl=1m
  s3mount mount --config photos
"""

EXIT_TEXTS: dict[Exit, str] = {
    Exit.OK: "mounted, or in the foreground unmounted and drained",
    Exit.FAILURE: "anything without a number of its own",
    Exit.USAGE: "the command line",
    Exit.CONFIG: "a value, a configuration file, a profile or the credentials file",
    Exit.STORE_UNREACHABLE: "the server cannot be reached",
    Exit.STORE_REFUSED: "the server refused: keys, permissions, or this machine's clock",
    Exit.NO_SUCH_BUCKET: "there is no such bucket",
    Exit.WRONG_REGION: "the bucket is in another region",
    Exit.NOT_S3: "the server does not speak S3",
    Exit.TLS: "the server's certificate, or TLS itself",
    Exit.MOUNTPOINT: "the mountpoint: missing, no directory, not empty, dead, busy",
    Exit.FUSE: "/dev/fuse, fusermount3, or an option that is not permitted",
    Exit.CACHE_DIR: "the cache or spool directory",
    Exit.NOT_DRAINED: "not everything was uploaded in time; the spool has it",
}


CONFIG_HELP = (
    "a configuration: NAME for ~/.config/s3mount/NAME.toml or /etc/s3mount/NAME.toml, or a file with a slash "
    "or .toml in its name; in fstab -o config=NAME"
)


def add_parser(commands: Commands) -> None:
    """Add the command and all options to *commands*."""
    parser = commands.add_parser(
        "mount",
        help="mount a bucket",
        usage=_USAGE,
        description=wrapped(_DESCRIPTION) + "\n\n" + _EXAMPLES,
        epilog=_exit_codes(),
    )
    parser.set_defaults(run=run, chosen=None)
    parser.add_argument(
        "places",
        metavar="BUCKET[/PREFIX] DIR",
        nargs="*",
        help="or s3://BUCKET/PREFIX; and an empty directory. With --config both may be left out, or BUCKET",
    )
    parser.add_argument("--config", metavar="NAME|FILE", help=CONFIG_HELP)
    add_mount_options(parser)
    for title in GROUPS:
        add_options(parser, title)


def add_mount_options(parser: argparse.ArgumentParser) -> None:
    """Add ``-o``; what it chooses is found in the namespace's ``chosen``."""
    parser.add_argument(
        "-o",
        action=_MountOptions,
        default=argparse.SUPPRESS,
        metavar="NAME[=VALUE],...",
        help="options as in fstab: any below without the dashes, ro, rw, noexec, noatime, and what mount(8) "
        "and systemd use (_netdev, nofail, x-*, ...); a comma within a value is written \\,",
    )


def add_options(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options of one group to *parser*; what is chosen is found in the namespace's ``chosen``."""
    group = parser.add_argument_group(title)
    for option in OPTIONS:
        if option.group == title:
            _add_option(group, option)


def run(arguments: argparse.Namespace) -> int:
    """Mount; in the foreground, until it is unmounted.

    Raises: StartupError.
    """
    from s3mount import logs
    from s3mount.cli import checks, daemon

    config, source = _config_and_source(arguments)
    if arguments.call.is_fake:
        return int(Exit.OK)
    checks.wait_for_the_one_before(config)
    before = checks.check_all(config)
    log_file = config.log_file or (None if config.foreground else default_log_file(config))
    try:
        logs.configure(
            level=config.log_level,
            format=config.log_format,
            log_file=Path(log_file) if log_file else None,
            rotate=config.log_file is None,
            journal_fields={"S3MOUNT_MOUNTPOINT": config.mountpoint, "S3MOUNT_SOURCE": config.source},
        )
    except OSError as error:
        raise StartupError(
            f"log file {log_file}",
            f"it cannot be written to ({error.strerror})",
            "name another with --log-file",
            Exit.CONFIG,
        ) from None
    if config.foreground or log_file is None:
        return _run_in_foreground(config, log_file, source)
    daemon.start(config, log_file, before, source)
    if not arguments.call.is_helper:
        print(f"s3mount: {config.source} is mounted at {config.mountpoint}; log: {log_file}")
    return int(Exit.OK)


def config_from(arguments: argparse.Namespace) -> MountConfig:
    """Return what the command line says.

    Raises: StartupError.
    """
    return _config_and_source(arguments)[0]


def _config_and_source(arguments: argparse.Namespace) -> tuple[MountConfig, ConfigSource | None]:
    chosen: Chosen = arguments.chosen or Chosen()
    file = config_file(arguments, chosen)
    source, directory = _places(arguments.places, file, chosen)
    config = files.configure(file, chosen, source, resolve(os.path.expanduser(directory)))
    return config, None if file is None else ConfigSource(file, chosen, config)


def config_file(arguments: argparse.Namespace, chosen: Chosen) -> ConfigFile | None:
    """Return the configuration that is named, None where none is.

    Raises: StartupError.
    """
    name = arguments.config or chosen.file
    return None if name is None else files.load(files.find(name))


def _places(places: Sequence[str], file: ConfigFile | None, chosen: Chosen) -> tuple[str, str]:
    """Return bucket and directory: of the command line, else of the file. Raises: StartupError."""
    if len(places) > 2:
        raise StartupError(
            f"argument {places[2]}", "this is one too many", "see `s3mount mount --help`", Exit.USAGE
        )
    given = (places[0] if len(places) == 2 else None, places[-1] if places else None)
    if file is None:
        if given[0] is None or given[1] is None:
            missing = "DIR" if places else "BUCKET[/PREFIX], DIR"
            raise StartupError(
                "usage",
                f"the following arguments are required: {missing}",
                "see `s3mount mount --help`",
                Exit.USAGE,
            )
        return given[0], given[1]
    chosen.origins.update(
        (name, COMMAND_LINE) for name, value in zip(files.PLACES, given, strict=True) if value
    )
    source, directory = given[0] or file.source, given[1] or file.mountpoint
    if file.faults:
        raise files.first_of(file)
    if source is None or directory is None:
        name = "bucket" if source is None else "mountpoint"
        raise StartupError(
            f"configuration {file.path}",
            f"it says no {name}, and neither does the command line",
            f"write for example {files.example(name)}",
            Exit.CONFIG,
        )
    return source, directory


def default_log_file(config: MountConfig) -> str:
    """Return where a mount in the background logs, its directory made if need be.

    Raises: StartupError.
    """
    from s3mount.cli.checks import check_directory
    from s3mount.config.machine import state_dir, worker_for

    directory = state_dir(worker=worker_for(config.run_as)) / "log"
    check_directory("log directory", str(directory), "--log-file")
    return str(directory / f"{Path(config.spool_dir).name}.log")


def _run_in_foreground(config: MountConfig, log_file: str | None, source: ConfigSource | None) -> int:
    from s3mount import service
    from s3mount.cli.serving import serve_mount

    try:
        manager = service.manager()
        if manager is None:
            return serve_mount(config, log_file=log_file, on_ready=lambda: None, source=source)
        from s3mount.cli.supervision import Supervision

        faulthandler.enable()  # its watchdog ends a process by SIGABRT, and the log should show where it hung
        supervision = Supervision(manager, config)
        return serve_mount(
            config, log_file=log_file, on_ready=supervision.ready, beside=supervision.follow, source=source
        )
    except StartupError:
        raise
    except Exception as error:
        log.exception("the mount ended unexpectedly")
        raise StartupError(
            "mount",
            f"it ended unexpectedly ({type(error).__name__})",
            f"see {log_file or 'the log above'}",
            Exit.FAILURE,
        ) from None


class _SetOption(argparse.Action):
    """Take one option of the table into the namespace's ``chosen``."""

    def __init__(self, option: Option, **settings: Any) -> None:
        nargs: int | str | None = 0 if option.is_switch else None
        super().__init__(nargs=nargs if option.bare is None else argparse.OPTIONAL, **settings)
        self._option = option

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        text = values if isinstance(values, str) else None
        _chosen(namespace).set(self._option, text, option_string or f"--{self._option.name}")


class _MountOptions(argparse.Action):
    """Take one ``-o`` argument into the namespace's ``chosen``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        _chosen(namespace).add(str(values))


def _chosen(namespace: argparse.Namespace) -> Chosen:
    if namespace.chosen is None:
        namespace.chosen = Chosen()
    chosen: Chosen = namespace.chosen
    return chosen


def _add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    names = [f"-{option.short}"] if option.short else []
    default = option.describe_default()
    text = option.help if default is None else f"{option.help} [{default}]"
    group.add_argument(
        *names,
        f"--{option.name}",
        action=_SetOption,
        option=option,
        dest="chosen",
        default=argparse.SUPPRESS,
        metavar=option.metavar or None,
        help=text.replace("%", "%%"),
    )


def _exit_codes() -> str:
    lines = (f"  {code.value:>2}  {text}" for code, text in EXIT_TEXTS.items())
    return "exit codes:\n" + "\n".join(lines)
