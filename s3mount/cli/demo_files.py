"""The files in the demo's bucket: the same bytes each time."""

from __future__ import annotations

import csv
import datetime
import io
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from s3mount.core.exits import Exit
from s3mount.errors import StartupError

_MIB = 1024**2
_BINARY_MIB = 64
_ROWS = 5000
_STATIONS = ("Bergen", "Cuzco", "Dakar", "Kyoto", "Lagos", "Turku")
_COLUMNS = ("measured_at", "station", "celsius", "humidity")

_README = """\
This directory is the bucket `demo` of an S3 server on your own machine.

  data/measurements.csv       5,000 rows
  data/measurements.parquet   the same 5,000 rows
  media/random.bin            64 MiB that do not compress
  notes/                      a small tree of text files

Everything that you change here is in the bucket once the program that wrote it
has closed the file.
"""

Row = tuple[datetime.datetime, str, float, int]


@dataclass(frozen=True, slots=True)
class DemoFile:
    """One object to be. Each call of *body* gives its *size* bytes anew, in pieces."""

    key: str
    content_type: str
    size: int
    body: Callable[[], Iterable[bytes]]


def demo_files() -> Iterator[DemoFile]:
    """Yield what goes into the bucket.

    Raises: StartupError when pyarrow, which writes the Parquet file, is missing.
    """
    rows = _rows()
    yield _small("README.txt", "text/plain", _README.encode())
    yield _small("data/measurements.csv", "text/csv", _csv(rows))
    yield _small("data/measurements.parquet", "application/vnd.apache.parquet", _parquet(rows))
    for station in _STATIONS:
        own = [row for row in rows if row[1] == station]
        mean = sum(row[2] for row in own) / len(own)
        text = f"{station}\n\n{len(own)} measurements, {mean:.1f} degrees on average.\n"
        yield _small(f"notes/stations/{station.lower()}.txt", "text/plain", text.encode())
    yield _small("notes/todo.txt", "text/plain", b"- edit me with vim\n- copy something here\n")
    yield DemoFile("media/random.bin", "application/octet-stream", _BINARY_MIB * _MIB, _random_bytes)


def _small(key: str, content_type: str, body: bytes) -> DemoFile:
    return DemoFile(key, content_type, len(body), lambda: [body])


def _rows() -> list[Row]:
    source = random.Random(20240229)
    start = datetime.datetime(2024, 1, 1)
    return [
        (
            start + datetime.timedelta(minutes=10 * number),
            source.choice(_STATIONS),
            round(source.gauss(14, 9), 1),
            source.randint(20, 100),
        )
        for number in range(_ROWS)
    ]


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((moment.isoformat(), *rest) for moment, *rest in rows)
    return text.getvalue().encode()


def _parquet(rows: list[Row]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StartupError(
            "pyarrow", "the demo's Parquet file needs it", "pip install 's3mount[demo]'", Exit.FAILURE
        ) from None
    columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
    target = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({name: list(values) for name, values in columns.items()}), target
    )
    return target.getvalue()


def _random_bytes() -> Iterator[bytes]:
    source = random.Random(64)
    for _ in range(_BINARY_MIB):
        yield source.randbytes(_MIB)
