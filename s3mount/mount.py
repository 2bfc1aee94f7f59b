"""The composition root: builds the layers, starts them, drains them, stops them. Nothing else does."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from s3mount import __version__, logs
from s3mount.config import MountConfig
from s3mount.config.files import ConfigSource
from s3mount.config.machine import raise_descriptor_limit, state_dir
from s3mount.config.options import OPTIONS, STORE
from s3mount.control.commands import Commands, forget_below
from s3mount.control.metrics import metrics_text
from s3mount.control.metrics_server import listen, serving_metrics
from s3mount.control.protocol import ControlError
from s3mount.control.server import serving
from s3mount.control.status import Identity, Observer
from s3mount.core.descriptors import plan_descriptors
from s3mount.core.exits import Exit
from s3mount.core.keys import Location
from s3mount.core.link_targets import LinkRules
from s3mount.core.progress import Sending
from s3mount.core.readahead import Readahead
from s3mount.core.server_facts import ServerFacts
from s3mount.core.status import ProcessRequests, RequestStatus
from s3mount.data.block_cache import BlockCache
from s3mount.data.budget import Budget
from s3mount.data.budgeted_store import BudgetedStore
from s3mount.data.descriptors import SpoolDescriptors
from s3mount.data.job_journal import JobJournal
from s3mount.data.spool import SpoolDir
from s3mount.data.spool_bucket import SpoolBucket, remember_bucket
from s3mount.data.uploader import Uploader
from s3mount.errors import FsError, StartupError
from s3mount.fs.attributes import AttributeWriter
from s3mount.fs.directories import DirectoryHandles
from s3mount.fs.file_services import FileServices
from s3mount.fs.files import Files
from s3mount.fs.hidden import HiddenFiles
from s3mount.fs.jobs import Jobs
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.ownership import Defaults
from s3mount.fs.recent_errors import RecentErrors
from s3mount.fs.recovery import Recovery
from s3mount.fs.rename import Renamer
from s3mount.fs.tree import Tree
from s3mount.fs.upload_queue import UploadQueue
from s3mount.fs.xattrs import StateXattrs
from s3mount.fuse import session
from s3mount.fuse.access_log import AccessLog
from s3mount.fuse.convert import Converter
from s3mount.fuse.invalidation import forget_attributes
from s3mount.fuse.operations import FileSystem, Operations
from s3mount.logs import open_access_log
from s3mount.meta.inodes import InodeTable
from s3mount.meta.namespace import Namespace
from s3mount.meta.policy import NamePolicy
from s3mount.mounter.base import Mounter
from s3mount.settings import Settings
from s3mount.store.base import Breaker, ObjectStore
from s3mount.store.checked import CheckedStore
from s3mount.store.client import ClientOptions, Connections, build_client
from s3mount.store.conditional import ConditionalStore
from s3mount.store.facts import PROBE_S, FactFile, find_out, warn_of_ignorance
from s3mount.store.limits import Limits
from s3mount.store.preflight import check
from s3mount.store.s3 import S3Store

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""How long an upload that gave way to a writer rests, where closes wait for uploads."""


Beside = Callable[[Observer, Mounter], Awaitable[None]]
"""Runs from the mount to the end of its drain, and is cancelled then. Raises nothing."""


def serve(
    config: MountConfig,
    mounter: Mounter,
    *,
    on_ready: Callable[[], None],
    control: Path | None = None,
    beside: Beside | None = None,
    source: ConfigSource | None = None,
) -> int:
    """Mount, serve until unmounted or told to end, drain.

    SIGTERM and SIGINT drain and unmount; a second one does not wait for the drain. SIGHUP reads *source* and
    the credentials again; where it says that the terminal is gone, it is as SIGTERM.

    Args:
        mounter: mounts and unmounts.
        on_ready: called once, when the kernel gets answers.
        control: where the control socket is to be; None makes none.
        beside: what else watches the mount.
        source: where *config* is from; None where there is no file.

    Returns: Exit.OK, or Exit.NOT_DRAINED if uploads are left in the spool.
    Raises: StartupError before *on_ready* was called.
    """
    return trio.run(_serve, config, mounter, on_ready, control, beside, source)


async def _serve(
    config: MountConfig,
    mounter: Mounter,
    on_ready: Callable[[], None],
    control: Path | None,
    beside: Beside | None,
    source: ConfigSource | None,
) -> int:
    async with opened_store(config, mounter) as opened, AsyncExitStack() as stack:
        initialised = trio.Event()
        fs = await build_file_system(config, opened, stack)
        fs.files.can_still_write = mounter.can_still_write
        observer = _observer(config, opened, fs)
        settings = _settings(config, opened, fs, source)
        await _serve_metrics(config, observer, stack)
        operations = Operations(
            fs,
            Converter(_defaults(config), preferred_io_bytes=config.block_size, born_ns=time.time_ns()),
            operation_timeout_s=config.operation_timeout_s,
            on_init=initialised.set,
            access_log=_access_log(config),
            hidden=HiddenFiles(
                {b"status.json": observer.text, b"metrics": partial(metrics_text, observer.status)}
            ),
        )
        session.open_session(operations, mounter, mount_options(config))
        try:
            nursery = await stack.enter_async_context(trio.open_nursery())
            if beside is not None:
                nursery.start_soon(beside, observer, mounter)
            if control is not None:
                commands = Commands(observer, forget_attributes, opened.requests_by_process, settings)
                await stack.enter_async_context(serving(control, commands.run))
            await _run(config, mounter, fs, observer, settings, initialised, on_ready)
        finally:
            session.close_session(mounter)
        code = await _drain(config, fs, observer)
        await fs.open_files.discard_sent()
        nursery.cancel_scope.cancel()
        return code


async def _has_none() -> bool:
    return False


@dataclass(frozen=True)
class OpenedStore:
    """A bucket that has answered, what its server honours, and the address that was found for it."""

    store: ObjectStore
    facts: ServerFacts
    descriptors: SpoolDescriptors
    endpoint_url: str
    breaker: Breaker
    requests: Callable[[], RequestStatus] = lambda: RequestStatus(0, 0, 0, [])
    """Counts; a store that is no server's has none."""
    requests_by_process: Callable[[], list[ProcessRequests]] = list
    renew_credentials: Callable[[], Awaitable[bool]] = _has_none
    limits: Limits = field(default_factory=Limits)
    sending: Callable[[], Sending] = Sending


@asynccontextmanager
async def opened_store(config: MountConfig, mounter: Mounter | None = None) -> AsyncIterator[OpenedStore]:
    """Give the bucket of *config*, for a mount or for a command that does without one.

    Args:
        mounter: has files with keys that this process may not read itself.

    Raises: StartupError.
    """
    options, descriptors = limited(client_options(config, mounter), raise_descriptor_limit())
    first_answer = await check(options, config.prefix)
    client = build_client(options)
    s3 = S3Store(client, options)
    try:
        async with s3.probing():
            checked = CheckedStore(s3)
            endpoint_url = client.meta.endpoint_url
            facts = await find_facts(config, checked, first_answer, endpoint_url)
            store = ConditionalStore(checked, facts)
            yield OpenedStore(
                store,
                facts,
                descriptors,
                endpoint_url,
                s3.breaker,
                s3.requests,
                s3.requests_by_process,
                s3.renew_credentials,
                s3.limits,
                s3.sending,
            )
    finally:
        s3.close()


async def find_facts(
    config: MountConfig, store: ObjectStore, known: ServerFacts, endpoint_url: str
) -> ServerFacts:
    """Return what the server honours: remembered, or probed; *known* where that is not wanted.

    SIGTERM ends the process as before, only that what the probe has stored is taken away first.
    """
    if config.read_only:
        return known
    if not config.probe:
        warn_of_ignorance("--no-probe")
        return known
    directory = Path(config.cache_dir or state_dir()) / "facts"
    file = FactFile(directory, endpoint_url, config.bucket)
    patience_s = min(PROBE_S, config.operation_timeout_s)
    facts, terminated = known, trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give_up_on, signals, nursery.cancel_scope, terminated)
            facts = await find_out(store, config.prefix, known, file, patience_s=patience_s)
            nursery.cancel_scope.cancel()
    if terminated.is_set():
        signal.raise_signal(signal.SIGTERM)
    return facts


async def _give_up_on(signals: AsyncIterator[int], scope: trio.CancelScope, terminated: trio.Event) -> None:
    async for _ in signals:
        terminated.set()
        scope.cancel()


async def build_file_system(config: MountConfig, opened: OpenedStore, stack: AsyncExitStack) -> FileSystem:
    """Wire the layers between the store and the kernel; what must be closed goes onto *stack*.

    Raises: StartupError (the spool directory cannot be used).
    """
    policy = NamePolicy(
        ttl_s=config.ttl_s,
        negative_ttl_s=config.negative_ttl_s,
        attributes=config.attributes,
        list_shows_attributes=opened.facts.list_has_metadata,
        max_cached_names=config.max_cached_names,
    )
    budget = Budget(config.memory_bytes)
    store = BudgetedStore(opened.store, budget)
    namespace = Namespace(store, InodeTable(Location(config.prefix)), policy, breaker=opened.breaker)
    cache = await stack.enter_async_context(
        BlockCache.open(
            store,
            budget,
            block_size=config.block_size,
            # More would only queue in the store, before readers who wait.
            background_runs=config.download_concurrency,
        )
    )
    spool_dir = SpoolDir(
        config.spool_dir,
        cap_bytes=config.spool_cap_bytes,
        free_floor_bytes=config.spool_free_bytes,
        mountpoint=config.mountpoint,
        source=config.source,
    )
    stack.callback(spool_dir.close)
    _note_bucket(spool_dir, config, opened.endpoint_url)
    services = FileServices(
        store=store,
        namespace=namespace,
        cache=cache,
        spool_dir=spool_dir,
        uploader=Uploader(
            store,
            part_size=config.part_size,
            concurrency=config.upload_concurrency,
            begun=spool_dir.rows,
            facts=opened.facts,
        ),
        queue=UploadQueue(
            delay_s=RETRY_S if config.write_back_s is None else config.write_back_s,
            files_at_once=config.upload_concurrency,
            most_files=opened.descriptors.first_reserved // 2,
        ),
        write_back_s=config.write_back_s,
        new_readahead=lambda: Readahead(
            config.block_size, cap_bytes=min(config.read_ahead_bytes, budget.total_bytes)
        ),
        on_conflict=config.on_conflict,
    )
    defaults = _defaults(config)
    open_files = OpenFiles(services)
    errors = RecentErrors()
    files = Files(services, open_files, defaults, opened.descriptors, errors, read_only=config.read_only)
    link_rules = LinkRules(config.links, os.fsencode(config.mountpoint))
    tree = Tree(services, open_files, defaults, link_rules, read_only=config.read_only)
    journal = JobJournal(spool_dir.journal)
    jobs = await stack.enter_async_context(Jobs.open(services, open_files, tree, journal))
    if not config.read_only:
        jobs.find()
    recovery = Recovery(services, open_files)
    leftovers = spool_dir.leftovers()
    if not config.read_only:
        await recovery.adopt(leftovers)

    async def work_in_background() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.queue.run, files.upload_in_background)
            nursery.start_soon(services.queue.follow, opened.breaker)
            nursery.start_soon(recovery.settle, leftovers)

    return FileSystem(
        services=services,
        budget=budget,
        namespace=namespace,
        open_files=open_files,
        directories=DirectoryHandles(namespace),
        files=files,
        tree=tree,
        renamer=Renamer(services, open_files, tree, jobs),
        jobs=jobs,
        attributes=AttributeWriter(services, open_files, files, defaults, read_only=config.read_only),
        errors=errors,
        xattrs=StateXattrs(open_files, errors) if config.xattrs else None,
        work_in_background=work_in_background,
    )


def _settings(
    config: MountConfig, opened: OpenedStore, fs: FileSystem, source: ConfigSource | None
) -> Settings:
    policy, space = fs.namespace.policy, fs.services.spool_dir.space
    return Settings(
        config,
        {
            "log-level": logs.set_level,
            "ttl": partial(setattr, policy, "ttl_s"),
            "negative-ttl": partial(setattr, policy, "negative_ttl_s"),
            "memory": fs.budget.resize,
            "spool-cap": partial(setattr, space, "cap_bytes"),
            "spool-free": partial(setattr, space, "free_floor_bytes"),
            "upload-limit": opened.limits.upload.set_rate,
            "download-limit": opened.limits.download.set_rate,
            "requests-limit": opened.limits.requests.set_rate,
        },
        forget=partial(forget_below, fs.namespace, forget_attributes, "/"),
        renew=opened.renew_credentials,
        source=source,
    )


def _observer(config: MountConfig, opened: OpenedStore, fs: FileSystem) -> Observer:
    identity = Identity(
        program=__version__,
        mountpoint=config.mountpoint,
        source=config.source,
        endpoint_url=opened.endpoint_url,
        is_read_only=config.read_only,
        write_back_s=config.write_back_s,
        facts=opened.facts,
    )
    return Observer(
        identity,
        fs.services,
        fs.open_files,
        fs.budget,
        opened.breaker,
        opened.requests,
        fs.errors,
        fs.jobs,
        opened.sending,
    )


def _access_log(config: MountConfig) -> AccessLog | None:
    """Raises: StartupError (the file cannot be written to)."""
    if config.access_log is None:
        return None
    try:
        return AccessLog(open_access_log(Path(config.access_log)))
    except OSError as exc:
        raise StartupError(
            f"access log {config.access_log}",
            f"it cannot be written to ({exc.strerror})",
            "name another with --access-log",
            Exit.CONFIG,
        ) from exc


async def _serve_metrics(config: MountConfig, observer: Observer, stack: AsyncExitStack) -> None:
    """Raises: StartupError (the address is not to be had)."""
    address = config.metrics
    if address is None:
        return
    try:
        listener = listen(address)
    except OSError as exc:
        raise StartupError(
            f"metrics address {address}",
            f"it cannot be listened at ({exc.strerror})",
            "name another with --metrics",
            Exit.CONFIG,
        ) from exc
    text = partial(metrics_text, observer.status)
    await stack.enter_async_context(serving_metrics(listener, address, text))


async def _run(
    config: MountConfig,
    mounter: Mounter,
    fs: FileSystem,
    observer: Observer,
    settings: Settings,
    initialised: trio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Serve the kernel until the mount is gone, by umount(8) or by a signal."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, config, mounter, fs, initialised, on_ready)
        nursery.start_soon(_stop_on_signal, config, fs, observer)
        nursery.start_soon(_reload_on_signal, settings)
        if not config.read_only:
            nursery.start_soon(fs.work_in_background)
        await session.serve()
        nursery.cancel_scope.cancel()


async def _announce(
    config: MountConfig,
    mounter: Mounter,
    fs: FileSystem,
    initialised: trio.Event,
    on_ready: Callable[[], None],
) -> None:
    await initialised.wait()
    await trio.to_thread.run_sync(mounter.tune)
    log.info("mounted %s at %s", config.source, config.mountpoint)
    fs.jobs.resume()
    on_ready()


async def _stop_on_signal(config: MountConfig, fs: FileSystem, observer: Observer) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("%s: draining, then unmounting %s", signal.Signals(number).name, config.mountpoint)
            break
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_and_stop, config, fs, observer)
            async for number in signals:
                log.warning("%s again: not waiting for uploads", signal.Signals(number).name)
                session.stop()


async def _reload_on_signal(settings: Settings) -> None:
    had_terminal = os.isatty(2)
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if had_terminal and not os.isatty(2):
                # It has been closed: the kernel's own meaning of this signal.
                signal.raise_signal(signal.SIGTERM)
                continue
            log.info("SIGHUP: reading the configuration and the credentials again")
            try:
                await settings.reload()
            except ControlError as error:
                log.warning("the configuration was not taken: %s", error)


async def _drain_and_stop(config: MountConfig, fs: FileSystem, observer: Observer) -> None:
    await _drain(config, fs, observer)
    session.stop()


async def _drain(config: MountConfig, fs: FileSystem, observer: Observer) -> int:
    """Upload whatever is unsent, within the drain timeout; say what is left.

    What lost against somebody else's object was said when it did, and is no less left.
    """
    observer.state = "draining"
    with trio.move_on_after(config.drain_timeout_s):
        await fs.jobs.drain()
        await fs.files.upload_all()
    left = fs.open_files.unsent()
    for file in left:
        await file.keep_unsent()
        path = file.spool.path if file.spool is not None else "(no spool)"
        log.error(
            "%s is not in the bucket; its bytes are in %s (s3mount spool list shows it)",
            file.node.path(),
            path,
        )
    jobs = fs.jobs.summaries()
    for job in jobs:
        log.error("the rename of %r to %r is not finished: the next mount goes on with it", job.old, job.new)
    return Exit.NOT_DRAINED if left or jobs or fs.open_files.has_lost() else Exit.OK


def _note_bucket(spool_dir: SpoolDir, config: MountConfig, endpoint_url: str) -> None:
    """Let ``s3mount spool push`` find the bucket without a mount."""
    options = {option.field: getattr(config, option.field) for option in OPTIONS if option.group == STORE}
    # Of the same size, or parts that the server has would be sent again.
    options |= {"cache_dir": config.cache_dir, "probe": config.probe, "part_size": config.part_size}
    try:
        remember_bucket(
            spool_dir.journal, SpoolBucket(config.source, endpoint_url, config.mountpoint, options)
        )
    except FsError as exc:
        log.warning("the spool in %s has no note of its bucket: %s", spool_dir.path, exc)


def client_options(config: MountConfig, mounter: Mounter | None = None) -> ClientOptions:
    """Return what the store needs of *config*, and of *mounter* where files with keys come through it."""
    credentials_file = config.credentials_file
    if mounter is not None and credentials_file is not None:
        credentials_file = mounter.name_of(credentials_file)
    return ClientOptions(
        bucket=config.bucket,
        endpoint_url=config.endpoint_url,
        region=config.region,
        profile=config.profile,
        sign_requests=config.sign_requests,
        verify_tls=config.verify_ssl,
        ca_bundle=config.ca_bundle,
        addressing_style=config.addressing_style,
        credentials_file=credentials_file,
        refresh_files=None if mounter is None else mounter.refresh,
        checksums=config.checksums,
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        deadline_s=config.operation_timeout_s,
        attempts=config.attempts,
        upload_limit=config.upload_limit,
        download_limit=config.download_limit,
        requests_limit=config.requests_limit,
        connections=Connections(
            get=config.download_concurrency,
            background_get=config.download_concurrency,
            upload=config.upload_concurrency,
            meta=config.metadata_concurrency,
        ),
    )


def limited(options: ClientOptions, limit: int) -> tuple[ClientOptions, SpoolDescriptors]:
    """Fit connections and spool files into *limit* file descriptors.

    Raises: StartupError (too few even for one of each).
    """
    wanted = options.connections
    try:
        plan = plan_descriptors(limit, wanted.each)
    except ValueError as exc:
        raise StartupError(
            "file descriptors",
            str(exc),
            "raise the hard limit: ulimit -Hn, LimitNOFILE= in a unit",
            Exit.CONFIG,
        ) from exc
    if plan.connections != wanted.each:
        log.warning(
            "only %d file descriptors are permitted: %d connections instead of %d, "
            "and %d files open for writing",
            limit,
            sum(plan.connections),
            wanted.total,
            plan.spool_files,
        )
    return replace(options, connections=Connections(*plan.connections)), SpoolDescriptors(plan.first_reserved)


def mount_options(config: MountConfig) -> set[str]:
    """Return the options of mount(2) and libfuse.

    default_permissions: the kernel checks modes, so that what `ls -l` shows is what holds.
    """
    # libfuse splits at commas, and a backslash keeps one.
    source = (config.fsname or config.source).replace("\\", "\\\\").replace(",", "\\,")
    options = {"default_permissions", f"fsname={source}", "subtype=s3mount", *config.mount_options}
    if config.read_only:
        options.add("ro")
    if config.allow_other:
        options.add("allow_other")
    if config.allow_root:
        options.add("allow_root")
    return options


def _defaults(config: MountConfig) -> Defaults:
    return Defaults(
        uid=config.uid,
        gid=config.gid,
        file_mode=config.file_mode,
        dir_mode=config.dir_mode,
        owners=config.owners,
    )
