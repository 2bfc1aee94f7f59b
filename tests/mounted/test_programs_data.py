"""Databases and data tools that read and write in the middle of files."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.workplace import Workplace


def test_sqlite_in_rollback_mode(place: Workplace) -> None:
    """sqlite3 commits and rolls back on the mount; the object in the bucket is a sound database."""
    database = place.path / "shop.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
        for _ in range(3):
            with connection:
                connection.executemany("INSERT INTO item (name) VALUES (?)", [(f"n{n}",) for n in range(500)])
        connection.execute("UPDATE item SET name = 'lost'")
        connection.rollback()
        with connection:
            connection.execute("DELETE FROM item WHERE id % 2 = 0")
    assert place.below() == ["shop.db"]
    copy = place.local / "copy.db"
    copy.write_bytes(place.bucket.get(place.key("shop.db")))
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*), min(name) FROM item").fetchone() == (750, "n0")


def test_the_sqlite3_program_after_a_remount(place: Workplace) -> None:
    """The sqlite3 program goes on with a database that is only in the bucket by now."""
    place.run("sqlite3", "a.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2);")
    place.mount.remount()
    assert place.run("sqlite3", "a.db", "INSERT INTO t VALUES (3); SELECT sum(x) FROM t;") == "6\n"
    assert place.run("sqlite3", "a.db", "VACUUM; PRAGMA integrity_check;") == "ok\n"


def test_duckdb_reads_parquet(place: Workplace) -> None:
    """DuckDB queries a Parquet file that boto3 wrote, and a glob of them."""
    for number in range(3):
        table = pa.table({"id": list(range(20_000)), "part": [number] * 20_000})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=5_000)
        place.bucket.put(place.key(f"data/{number}.parquet"), buffer.getvalue())
    with duckdb.connect() as connection:
        one = connection.execute(f"SELECT sum(id) FROM '{place.path}/data/1.parquet' WHERE id % 2 = 0")
        assert one.fetchone() == (sum(range(0, 20_000, 2)),)
        many = connection.execute(f"SELECT count(*), sum(part) FROM '{place.path}/data/*.parquet'")
        assert many.fetchone() == (60_000, 60_000)


def test_duckdb_writes_parquet_and_keeps_a_database(place: Workplace) -> None:
    """DuckDB writes Parquet to the mount and keeps its own database file there."""
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT range AS id FROM range(50000)) TO '{place.path}/out.parquet' (FORMAT parquet)"
        )
    table = pq.read_table(io.BytesIO(place.bucket.get(place.key("out.parquet"))))
    assert table.column("id").to_pylist() == list(range(50_000))
    with duckdb.connect(str(place.path / "own.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS x FROM range(1000)")
    place.mount.remount()
    with duckdb.connect(str(place.path / "own.duckdb")) as connection:
        assert connection.execute("SELECT count(*), sum(x) FROM t").fetchone() == (1000, 499_500)
    assert place.below() == ["out.parquet", "own.duckdb"]


def test_pyarrow_maps_a_file_it_wrote(place: Workplace) -> None:
    """pyarrow writes with its own buffered streams and reads through a memory map."""
    table = pa.table({"x": list(range(100_000))})
    pq.write_table(table, place.path / "t.parquet")
    assert pq.read_table(place.path / "t.parquet", memory_map=True).equals(table)
    assert pq.read_table(io.BytesIO(place.bucket.get(place.key("t.parquet")))).equals(table)
