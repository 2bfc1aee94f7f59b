"""What requests cost, and who makes too many of them: estimates, by a table that the user may replace."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from s3mount.core.status import ProcessRequests, RequestCount


class RequestClass(enum.Enum):
    """Requests that cost the same; the value is the heading of its column."""

    GET = "GET"
    HEAD = "HEAD"
    LIST = "LIST"
    PUT = "PUT"
    DELETE = "DELETE"


_CLASSES: Final = {
    "GetObject": RequestClass.GET,
    "HeadObject": RequestClass.HEAD,
    "HeadBucket": RequestClass.HEAD,
    "ListObjectsV2": RequestClass.LIST,
    "ListParts": RequestClass.LIST,
    "ListMultipartUploads": RequestClass.LIST,
    "AbortMultipartUpload": RequestClass.DELETE,
    "DeleteObject": RequestClass.DELETE,
    "DeleteObjects": RequestClass.DELETE,
}
"""By operation; all that store or copy something are PUT, as on AWS's bill."""

DOLLARS_PER_1000: Final[Mapping[RequestClass, float]] = {
    RequestClass.GET: 0.0004,
    RequestClass.HEAD: 0.0004,
    RequestClass.LIST: 0.005,
    RequestClass.PUT: 0.005,
    RequestClass.DELETE: 0.0,
}
"""S3 Standard in us-east-1, in US dollars: https://aws.amazon.com/s3/pricing/, requests."""

GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list.

    Args:
        per_1000: money for 1,000 requests of a class.
        per_received_gib, per_sent_gib: for what objects hold; nothing within a region of AWS.
        currency: for the heading.
    """

    per_1000: Mapping[RequestClass, float]
    per_received_gib: float = 0.0
    per_sent_gib: float = 0.0
    currency: str = "USD"

    def cost(self, counts: Sequence[RequestCount]) -> float:
        """Return what requests have cost; those that failed or were given up count as well."""
        requests = sum(one.made * self.per_1000.get(class_of(one.operation), 0.0) / 1000 for one in counts)
        received = sum(one.received_bytes for one in counts) / GIB * self.per_received_gib
        return requests + received + sum(one.sent_bytes for one in counts) / GIB * self.per_sent_gib


AWS: Final = Prices(DOLLARS_PER_1000)


def read_prices(table: Mapping[str, object]) -> Prices:
    """Return the prices in a table as TOML has it, those of AWS where it says nothing.

    ``GET``, ``HEAD``, ``LIST``, ``PUT`` and ``DELETE`` are for 1,000 requests, ``received`` and ``sent`` for
    a GiB; ``currency`` is a text.

    Raises: ValueError.
    """
    numbers: dict[str, float] = {}
    known = {*(one.value for one in RequestClass), "received", "sent"}
    for name, value in table.items():
        if name == "currency":
            continue
        if name not in known:
            raise ValueError(f"{name} is none of {', '.join(sorted(known))}, currency")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name} is no price")
        numbers[name] = float(value)
    currency = table.get("currency", "USD")
    if not isinstance(currency, str):
        raise ValueError("currency is no text")
    per_1000 = {one: numbers.get(one.value, DOLLARS_PER_1000[one]) for one in RequestClass}
    return Prices(per_1000, numbers.get("received", 0.0), numbers.get("sent", 0.0), currency)


def class_of(operation: str) -> RequestClass:
    """Return the class of one of S3's operations."""
    return _CLASSES.get(operation, RequestClass.PUT)


def made_by_class(counts: Sequence[RequestCount]) -> dict[RequestClass, int]:
    """Return how many requests there were of each class."""
    made = dict.fromkeys(RequestClass, 0)
    for one in counts:
        made[class_of(one.operation)] += one.made
    return made


MOST_OF: Final = 0.5
"""Who makes this part of a class's requests is worth a word."""
WORTH: Final = 100
"""Requests of a class; of fewer nobody need know."""

_INDEXERS: Final = {
    "updatedb": "add fuse.s3mount to PRUNEFS in /etc/updatedb.conf",
    "updatedb.mlocat": "add fuse.s3mount to PRUNEFS in /etc/updatedb.conf",
    "updatedb.plocat": "add fuse.s3mount to PRUNEFS in /etc/updatedb.conf",
    "baloo_file": "take the mount out of its folders: balooctl config add excludeFolders",
    "tracker-miner-f": "take the mount out of its folders in GNOME's search settings",
    "localsearch": "take the mount out of its folders in GNOME's search settings",
    "clamscan": "exclude the mount with --exclude-dir",
    "aide": "exclude the mount in aide.conf",
    "du": "aws s3 ls --recursive --summarize takes a LIST for 1,000 objects",
}
_BY_CLASS: Final = {
    RequestClass.LIST: "raise --ttl if others change little, or look into fewer directories",
    RequestClass.HEAD: "--attributes=list asks for none where a directory is listed; raise --ttl",
    RequestClass.GET: "raise --memory if it reads the same files again",
}


def advice_on(processes: Sequence[ProcessRequests]) -> list[str]:
    """Return what is worth knowing about who makes the requests, a sentence each."""
    found = []
    for one_class in RequestClass:
        made = {one.process: made_by_class(one.counts)[one_class] for one in processes}
        total = sum(made.values())
        if total < WORTH:
            continue
        process, most = max(made.items(), key=lambda item: item[1])
        advice = _INDEXERS.get(process) or _BY_CLASS.get(one_class)
        if most >= MOST_OF * total and advice is not None:
            found.append(f"{process} made {100 * most // total} % of the {one_class.value}s: {advice}")
    return found
