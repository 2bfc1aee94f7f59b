"""A mount's status for people. It comes as JSON, maybe from another version: what is missing is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s3mount.cli.words import duration, moment, plural, printable, table
from s3mount.config.units import format_size_short

Status = Mapping[str, Any]
MOST_FILES = 20
ERRORS_TITLE = "last errors (s3mount explain PATH shows more):"


def lines(status: Status) -> Iterator[str]:
    """Yield the lines that ``s3mount status`` prints."""
    yield from mount_lines(status)
    yield ""
    yield from table(list(facts(status)))
    uploads = status["uploads"]
    if uploads["files"]:
        yield ""
        yield from upload_lines(uploads)
    if renames := status.get("renames"):
        yield ""
        yield f"renaming {plural(len(renames), 'directory').replace('directorys', 'directories')}:"
        for one in renames:
            yield f"  {rename_line(one)}"
    if status["spool"]["held_files"]:
        yield ""
        yield held_title(status)
        yield from table([[f"  {cells[0]}", *cells[1:]] for cells in held_rows(status)])
    if status["errors"]:
        yield ""
        yield ERRORS_TITLE
        for error in status["errors"]:
            yield f"  {error_line(error)}"


def uploads_title(uploads: Mapping[str, Any]) -> str:
    """Return how much is to be sent."""
    left = uploads["size_bytes"] - uploads["sent_bytes"]
    return f"to upload: {plural(uploads['files'], 'file')}, {format_size_short(left)}"


def upload_lines(uploads: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be sent, a file a line."""
    yield uploads_title(uploads)
    rows = [_upload(one) for one in uploads["listed"][:MOST_FILES]]
    yield from table(rows, right=frozenset({1, 2}))
    more = uploads["files"] - len(rows)
    if more > 0:
        yield f"  and {more:,} more"


def held_title(status: Status) -> str:
    """Return the line above what waits for the user."""
    return f"{plural(status['spool']['held'], 'file')} in the spool waiting for you (s3mount spool list):"


def held_rows(status: Status) -> list[list[str]]:
    """Return what waits for the user: number, state, key, cause."""
    return [
        [str(one["id"]), one["state"], printable(one["key"]), printable(one["cause"])]
        for one in status["spool"]["held_files"]
    ]


def rename_line(rename: Mapping[str, Any]) -> str:
    """Return how far the rename of a directory is."""
    cause = f"; {printable(rename['cause'])}, tried again" if rename["cause"] else ""
    done = f"{rename['phase']} {rename['done']:,} of {rename['total']:,}"
    return f"{printable(rename['old'])} -> {printable(rename['new'])}: {done}{cause}"


def progress(upload: Mapping[str, Any]) -> str:
    """Return how far an upload is: ``43 %``."""
    if not upload["size_bytes"]:
        return "0 %"
    return f"{100 * upload['sent_bytes'] // upload['size_bytes']} %"


def upload_state(upload: Mapping[str, Any]) -> str:
    """Return what happens with a file, in words."""
    state = str(upload["state"])
    if upload["is_open"] and state == "dirty":
        return "being written"
    due = upload["due_in_s"]
    when = "tried again" if upload["failures"] else "sent"
    words = state if due is None else f"{state}, {when} in {duration(due)}"
    if upload["failures"]:
        words += f", {plural(upload['failures'], 'try').replace('trys', 'tries')} failed"
    if upload["error"]:
        words += f": {printable(upload['error'])}"
    return words


def error_line(error: Mapping[str, Any]) -> str:
    """Return an error in one line."""
    times = "" if error["count"] == 1 else f" ({error['count']} times)"
    said = f"{error['error']}: {printable(error['message'])}"
    return f"{moment(error['at_s'])}  {error['operation']} {printable(error['path'])}: {said}{times}"


def hit_rate(cache: Mapping[str, Any]) -> str:
    """Return the rate in words."""
    rate = cache["hit_rate"]
    if rate is None:
        return "nothing read yet"
    return f"{100 * rate:.1f} % of {plural(cache['hits'] + cache['misses'], 'block')} were there"


def of_cap(used: int, cap: int | None) -> str:
    """Return ``12.0 MiB of 512.0 MiB (2 %)``."""
    if not cap:
        return format_size_short(used)
    return f"{format_size_short(used)} of {format_size_short(cap)} ({100 * used // cap} %)"


def mount_lines(status: Status) -> Iterator[str]:
    """Yield which mount it is, and how it was mounted."""
    yield f"{printable(status['source'])} at {printable(status['mountpoint'])}"
    mode = "read-only" if status["is_read_only"] else "read and write"
    if status["write_back_s"] is not None:
        mode += f", write-back after {duration(status['write_back_s'])}"
    yield (
        f"{status['state']} for {duration(status['uptime_s'])}; {mode}; "
        f"process {status['pid']}, s3mount {printable(status['program'])}"
    )


def facts(status: Status) -> Iterator[list[str]]:
    """Yield the figures, each with its name."""
    server, requests, spool = status["server"], status["requests"], status["spool"]
    reach = "answers" if server["is_reachable"] else "DOES NOT ANSWER; what needs it fails at once"
    name = f" ({printable(server['software'])})" if server["software"] else ""
    yield ["server", f"{printable(status['endpoint_url'])}{name} {reach}"]
    if server["windows"]:
        yield ["", f"another host can come between check and write when {', '.join(server['windows'])}"]
    made = sum(one["made"] for one in requests["counts"])
    failed = sum(one["failed"] for one in requests["counts"])
    is_cut = requests["limit"] != requests["most"]
    limit = f", the server asks for {requests['limit']} at most" if is_cut else ""
    yield ["requests", f"{made:,} so far, {failed:,} failed; {requests['running']} at this moment{limit}"]
    yield ["cache", hit_rate(status["cache"])]
    memory = status["memory"]
    waiting = f"; {memory['waiting']} wait for room" if memory["waiting"] else ""
    yield ["memory", of_cap(memory["used_bytes"], memory["cap_bytes"]) + waiting]
    free_bytes = spool["free_bytes"]
    free = "" if free_bytes is None else f"; {format_size_short(free_bytes)} free on its disk"
    yield ["spool", of_cap(spool["used_bytes"], spool["cap_bytes"]) + free]
    names = status["names"]
    yield ["names", f"{names['known']:,} of {names['cap']:,} known; {plural(names['handles'], 'open file')}"]


def _upload(upload: Mapping[str, Any]) -> list[str]:
    size = format_size_short(upload["size_bytes"])
    return [f"  {printable(upload['path'])}", size, progress(upload), upload_state(upload)]
