"""What a service manager is told: sd_notify(3), by the path or the abstract name that it gives."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import pytest

from s3mount import logs, service
from s3mount.cli.supervision import status_line
from s3mount.core.status import UploadsStatus
from s3mount.logs import JournalFormatter, TextFormatter
from tests.support.notify_socket import NotifySocket


@pytest.mark.parametrize("is_abstract", [False, True])
def test_it_is_told_at_its_socket(tmp_path: Path, is_abstract: bool) -> None:
    """All fields in one datagram; nothing in a value can be a field of its own."""
    name = f"@s3mount-test-{os.getpid()}" if is_abstract else str(tmp_path / "socket")
    listener = NotifySocket(name)
    try:
        manager = service.manager({"NOTIFY_SOCKET": name})
        assert manager is not None
        assert manager.tell(READY=1, STATUS="serving s3://a\nSTOPPING=1/")
        assert listener.receive_waiting() == [{"READY": "1", "STATUS": "serving s3://a STOPPING=1/"}]
    finally:
        listener.close()
    assert not manager.tell(WATCHDOG=1)


def test_a_manager_that_reads_nothing_is_not_waited_for(tmp_path: Path) -> None:
    """Its queue is full at some time: what is told then is lost, and nobody hangs."""
    listener = NotifySocket(str(tmp_path / "socket"))
    try:
        manager = service.manager({"NOTIFY_SOCKET": listener.address})
        assert manager is not None
        assert not all(manager.tell(WATCHDOG=1) for _ in range(100_000))
    finally:
        listener.close()


def test_nobody_is_told_who_does_not_ask(tmp_path: Path) -> None:
    """Without the variable, and with a kind of address that is none."""
    assert service.manager({}) is None
    assert service.manager({"NOTIFY_SOCKET": ""}) is None
    assert service.manager({"NOTIFY_SOCKET": "relative"}) is None


def test_the_watchdog_is_for_the_process_that_it_names() -> None:
    """WATCHDOG_PID, where it is given, is another process's for whoever inherited the variables."""
    base = {"NOTIFY_SOCKET": "/run/x"}
    for extra, expected in (
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ):
        found = service.manager({**base, **extra})
        assert found is not None
        assert found.watchdog_s == expected, extra


def test_the_journal_is_known_by_its_file(tmp_path: Path) -> None:
    """The variable alone does not count: the output may have been sent elsewhere since."""
    with (tmp_path / "stream").open("wb") as stream:
        found = os.fstat(stream.fileno())
        right = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert service.logs_to_journal(stream.fileno(), right)
        assert not service.logs_to_journal(stream.fileno(), {})
        assert not service.logs_to_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:1"})
    assert not service.logs_to_journal(99999, right)


def test_each_line_has_its_level_for_the_journal() -> None:
    """A traceback's lines too; time and level the journal has itself."""
    formatter = JournalFormatter(TextFormatter(is_stamped=False))
    for level, number in (("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)):
        value = logging.getLevelName(level.upper())
        record = logging.LogRecord("s3mount.x", value, __file__, 1, "%s", ("words",), None)
        assert formatter.format(record) == f"<{number}>s3mount.x: words"
    try:
        raise ValueError("deep\nand wide")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "bad", (), sys.exc_info())
    lines = formatter.format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_the_status_is_one_line() -> None:
    """What is served, what is still to be sent, and whether the server answers."""
    nothing = UploadsStatus(files=0, size_bytes=0, sent_bytes=0, open_files=0, listed=[])
    some = UploadsStatus(files=3, size_bytes=3 << 30, sent_bytes=1 << 30, open_files=0, listed=[])
    place = "s3://photos/ at /srv/photos"
    assert status_line(place, "serving", nothing, is_reachable=True) == f"serving {place}"
    assert (
        status_line(place, "serving", some, is_reachable=False)
        == f"serving {place}; 3 files, 2.0 GiB to upload; the server does not answer"
    )
    assert (
        status_line(place, "draining", some, is_reachable=True)
        == f"draining {place}; 3 files, 2.0 GiB to upload"
    )


def test_an_entry_of_the_journal_has_fields_and_keeps_its_lines(tmp_path: Path) -> None:
    """A value of more than one line goes with its length; what is too long goes elsewhere."""
    address = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(address))
        left: list[str] = []
        otherwise = logging.Handler()
        otherwise.emit = lambda record: left.append(record.getMessage())  # type: ignore[method-assign]
        handler = logs.JournalHandler(str(address), {"S3MOUNT_MOUNTPOINT": "/srv/photos"}, otherwise)
        try:
            handler.handle(logging.LogRecord("s3mount.x", logging.WARNING, __file__, 7, "a\nb", None, None))
            sent = journal.recv(65536)
            long = "x" * (1 << 24)
            handler.handle(logging.LogRecord("s3mount.x", logging.INFO, __file__, 7, long, None, None))
        finally:
            handler.close()
    assert b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n" in sent
    for field in (b"PRIORITY=4\n", b"LOGGER=s3mount.x\n", b"S3MOUNT_MOUNTPOINT=/srv/photos\n"):
        assert field in sent
    assert left == [long]
