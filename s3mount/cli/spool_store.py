"""The bucket that the files of a spool belong to, opened for a command."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from s3mount.cli.spool_places import Place
from s3mount.config import MountConfig, make_config
from s3mount.config.mount_options import Chosen
from s3mount.config.options import OPTIONS
from s3mount.core.exits import Exit
from s3mount.core.progress import Sending
from s3mount.data.budget import Budget
from s3mount.data.budgeted_store import BudgetedStore
from s3mount.errors import StartupError
from s3mount.mount import opened_store
from s3mount.store.base import ObjectStore


@dataclass(frozen=True)
class Bucket:
    """An open bucket and the options that it was opened with."""

    store: ObjectStore
    config: MountConfig
    sending: Callable[[], Sending] = Sending


@asynccontextmanager
async def opened_bucket(place: Place, arguments: argparse.Namespace) -> AsyncIterator[Bucket]:
    """Open the bucket that the files in *place* belong to, or the one that the command line names.

    Raises: StartupError (nobody knows the bucket; it is another one than that of the files; the server).
    """
    config = config_for(place, arguments)
    async with opened_store(config) as opened:
        noted = place.bucket
        if noted is not None and noted.endpoint_url and opened.endpoint_url != noted.endpoint_url:
            _need_elsewhere(place, f"the server is {opened.endpoint_url}", noted.endpoint_url, arguments)
        yield Bucket(BudgetedStore(opened.store, Budget(config.memory_bytes)), config, opened.sending)


def config_for(place: Place, arguments: argparse.Namespace) -> MountConfig:
    """Return the options of the mount that wrote the files, under those of the command line.

    Raises: StartupError.
    """
    named: str | None = getattr(arguments, "bucket", None)
    chosen: Chosen = arguments.chosen or Chosen()
    source = named or place.source
    if not source:
        raise StartupError(
            f"spool directory {place.path}",
            "it does not say which bucket its files belong to",
            "say it with --bucket and --endpoint-url",
            Exit.USAGE,
        )
    fields = {option.field for option in OPTIONS}
    noted = {} if place.bucket is None else place.bucket.options
    values = {name: value for name, value in noted.items() if name in fields} | chosen.values
    config = make_config(source, place.mountpoint or "/", values)
    if named is not None and place.source:
        own = make_config(place.source, "/", {}).bucket
        if config.bucket != own:
            _need_elsewhere(place, f"the bucket is {config.bucket}", own, arguments)
    return config


def _need_elsewhere(place: Place, what: str, noted: str, arguments: argparse.Namespace) -> None:
    """Refuse what nobody has asked for in so many words: files in a bucket that is not theirs."""
    if not getattr(arguments, "elsewhere", False):
        raise StartupError(
            f"spool directory {place.path}",
            f"{what}, and the files belong to {noted}",
            "leave the option out, or give --elsewhere if that is meant",
            Exit.USAGE,
        )
