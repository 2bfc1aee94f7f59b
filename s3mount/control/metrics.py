"""A status as Prometheus reads it: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from s3mount.core.filestate import FileState
from s3mount.core.status import MountStatus, RequestCount

_UNSENT: Final = [state.value for state in FileState if state is not FileState.CLEAN]


def metrics_text(status: Callable[[], MountStatus]) -> bytes:
    """Return the metrics of a mount as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)


class StatusCollector(Collector):
    """Turns a status into metrics whenever it is asked."""

    def __init__(self, status: Callable[[], MountStatus]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Return nothing: a description would take a status of its own."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; sizes in bytes, times in seconds."""
        status = self._status()
        info = GaugeMetricFamily(
            "s3mount_info", "Always 1.", labels=["version", "source", "mountpoint", "endpoint"]
        )
        info.add_metric([status.program, status.source, status.mountpoint, status.endpoint_url], 1)
        yield info
        yield _gauge("uptime_seconds", "Since it was mounted.", status.uptime_s)
        yield _gauge("draining", "1 while it is unmounted and sends what is left.", status.state != "serving")
        yield _gauge("server_reachable", "0 while the server does not answer.", status.server.is_reachable)
        yield from _requests(status)
        yield from _memory_and_disk(status)
        yield from _uploads(status)
        yield _gauge("names", "Files and directories that are known.", status.names.known)
        yield _gauge("open_files", "Files that are open or unsent.", status.names.open_files)
        yield _gauge("handles", "Files opened by programs.", status.names.handles)


def _requests(status: MountStatus) -> Iterator[Metric]:
    columns: tuple[tuple[str, str, Callable[[RequestCount], float]], ...] = (
        ("requests", "Requests that have ended.", lambda one: one.made),
        ("request_failures", "Of these, refused or broken off.", lambda one: one.failed),
        ("request_slow_downs", "Of the failures, asked to send fewer.", lambda one: one.slow_downs),
        ("requests_given_up", "Of these, ended by this side.", lambda one: one.given_up),
        ("request_seconds", "How long they took together.", lambda one: one.seconds),
        ("sent_bytes", "Contents of objects sent.", lambda one: one.sent_bytes),
        ("received_bytes", "Contents of objects received.", lambda one: one.received_bytes),
    )
    for name, text, value in columns:
        family = CounterMetricFamily(f"s3mount_{name}", text, labels=["operation"])
        for one in status.requests.counts:
            family.add_metric([one.operation], value(one))
        yield family
    yield _gauge("requests_running", "Requests under way.", status.requests.running)
    yield _gauge("requests_limit", "Requests at once, at most, for the moment.", status.requests.limit)


def _memory_and_disk(status: MountStatus) -> Iterator[Metric]:
    cache, memory, spool = status.cache, status.memory, status.spool
    yield _counter("cache_hits", "Blocks that readers found.", cache.hits)
    yield _counter("cache_misses", "Blocks that readers waited for.", cache.misses)
    yield _counter("cache_fetched_bytes", "Bytes of blocks fetched.", cache.fetched_bytes)
    yield _counter("cache_evictions", "Stretches of blocks thrown out for others.", cache.evicted_runs)
    yield _gauge("memory_bytes", "Memory in use.", memory.used_bytes)
    yield _gauge("memory_cap_bytes", "The most of it (--memory).", memory.cap_bytes)
    yield _gauge("memory_waiting", "Who waits for room.", memory.waiting)
    yield _gauge("spool_bytes", "Disk in use by the spool.", spool.used_bytes)
    if spool.cap_bytes is not None:
        yield _gauge("spool_cap_bytes", "The most of it (--spool-cap).", spool.cap_bytes)
    if spool.free_bytes is not None:
        yield _gauge("spool_free_bytes", "Free on its disk.", spool.free_bytes)
    yield _gauge("spool_held_files", "Files in the spool that wait for the user.", spool.held)


def _uploads(status: MountStatus) -> Iterator[Metric]:
    uploads = status.uploads
    yield _gauge("unsent_files", "Files of which the bucket lacks something.", uploads.files)
    yield _gauge("unsent_bytes", "What is still to be sent of them.", uploads.left_bytes)
    yield _gauge("unsent_open_files", "Of these, still open for writing.", uploads.open_files)
    family = GaugeMetricFamily("s3mount_uploads", "The first hundred of these, by state.", labels=["state"])
    for state in _UNSENT:
        family.add_metric([state], sum(one.state == state for one in uploads.listed))
    yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"s3mount_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"s3mount_{name}", text, value=float(value))
