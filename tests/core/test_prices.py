"""What requests cost, and who makes too many of them."""

from __future__ import annotations

import pytest

from s3mount.core.prices import (
    AWS,
    DOLLARS_PER_1000,
    WORTH,
    RequestClass,
    advice_on,
    class_of,
    made_by_class,
    read_prices,
)
from s3mount.core.status import ProcessRequests, RequestCount


def count(operation: str, made: int, *, sent: int = 0, received: int = 0) -> RequestCount:
    """Return a count with nothing else in it."""
    return RequestCount(operation, made, 0, 0, 0, 0.0, sent, received)


def test_requests_cost_what_awss_list_says() -> None:
    """1,000 of each."""
    counts = [count("GetObject", 1000), count("PutObject", 500), count("UploadPart", 500)]
    assert AWS.cost(counts) == pytest.approx(0.0004 + 0.005)
    assert AWS.cost([count("DeleteObject", 10**6), count("AbortMultipartUpload", 5)]) == 0
    assert AWS.cost([count("CopyObject", 1000)]) == AWS.cost([count("ListObjectsV2", 1000)])
    assert AWS.cost([]) == 0


def test_what_stores_is_a_put() -> None:
    """Unknown operations as well: an estimate had better be too high."""
    for operation in ("CreateMultipartUpload", "CompleteMultipartUpload", "UploadPartCopy", "Whatever"):
        assert class_of(operation) is RequestClass.PUT
    made = made_by_class([count("HeadObject", 2), count("HeadBucket", 3), count("ListParts", 4)])
    assert (made[RequestClass.HEAD], made[RequestClass.LIST], made[RequestClass.GET]) == (5, 4, 0)


def test_a_price_list_of_ones_own_changes_what_it_names() -> None:
    """The rest stays as on AWS's."""
    prices = read_prices({"GET": 1, "received": 0.5, "currency": "EUR"})
    assert prices.currency == "EUR"
    assert prices.per_1000[RequestClass.LIST] == DOLLARS_PER_1000[RequestClass.LIST]
    assert prices.cost([count("GetObject", 2000, received=1024**3)]) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"COPY": 1}, "COPY is none of DELETE, GET,"),
        ({"GET": "cheap"}, "GET is no price"),
        ({"GET": -1}, "GET is no price"),
        ({"GET": True}, "GET is no price"),
        ({"currency": 5}, "currency is no text"),
    ],
)
def test_a_wrong_price_list_is_refused(table: dict[str, object], said: str) -> None:
    """With the name of what is wrong in it."""
    with pytest.raises(ValueError, match=said):
        read_prices(table)


def test_who_makes_most_of_a_kind_is_told_what_to_do() -> None:
    """updatedb, the classic; others with what helps against this kind."""
    indexer = ProcessRequests("updatedb", [count("ListObjectsV2", 81), count("HeadObject", 10)])
    other = ProcessRequests("ls", [count("ListObjectsV2", 19), count("HeadObject", 500)])
    lists, heads = sorted(advice_on([indexer, other]), reverse=True)
    assert lists == "updatedb made 81 % of the LISTs: add fuse.s3mount to PRUNEFS in /etc/updatedb.conf"
    assert heads.startswith("ls made 98 % of the HEADs: ")


def test_of_few_requests_nothing_is_said() -> None:
    """Nor where nobody makes half of them, nor of what there is nothing to be done about."""
    assert advice_on([ProcessRequests("updatedb", [count("ListObjectsV2", WORTH - 1)])]) == []
    three = [ProcessRequests(name, [count("ListObjectsV2", WORTH)]) for name in "abc"]
    assert advice_on(three) == []
    assert advice_on([ProcessRequests("cp", [count("PutObject", WORTH)])]) == []
    assert advice_on([]) == []
