"""A bucket as plain boto3 sees it: what a test checks a mount against."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError

from tests.support.servers import Server

_PIECE = 1024 * 1024


class Bucket:
    """Objects by key, through a client that has nothing to do with s3mount."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self.client: Any = server.client(max_pool_connections=16)

    def put(self, key: str, body: bytes = b"", **more: Any) -> None:
        """Write an object; *more* are further arguments of PutObject."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body, **more)

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """Write many objects, several at once."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self.put(*item), bodies.items()))

    def delete(self, key: str) -> None:
        """Delete one object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with closing(self.client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
            data: bytes = body.read()
        return data

    def sha256(self, key: str) -> str:
        """Return the digest of an object that may be too large for memory."""
        digest = hashlib.sha256()
        with closing(self.client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
            for piece in body.iter_chunks(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def head(self, key: str) -> dict[str, Any]:
        """Return the answer to HeadObject."""
        answer: dict[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
        return answer

    def metadata(self, key: str) -> dict[str, str]:
        """Return an object's user metadata."""
        found: dict[str, str] = self.head(key)["Metadata"]
        return found

    def has(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self.head(key)
        except ClientError as exc:
            if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under *prefix*, sorted, directory markers included."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def files(self, prefix: str = "") -> dict[str, bytes]:
        """Return the bytes of every object under *prefix* that is no directory marker, by key without it."""
        keys = [key for key in self.keys(prefix) if not key.endswith("/")]
        return {key.removeprefix(prefix): self.get(key) for key in keys}
