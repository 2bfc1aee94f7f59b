"""S-5: a traceback from the midst of signing shows no key."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from s3mount import logs
from s3mount.store.client import ClientOptions, build_client
from tests.security.secrets import key_file
from tests.support.servers import Server


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()], ids=["text", "json"])
def test_s05_an_error_while_signing_shows_no_key(
    formatter: logging.Formatter, tmp_path: Any, minio: Server
) -> None:
    """Neither the values of its frames nor what botocore says of its credentials."""
    options = ClientOptions(
        "bucket", endpoint_url=minio.endpoint_url, credentials_file=str(key_file(minio, tmp_path))
    )
    client = build_client(options)

    def fail(request: Any, **_: Any) -> None:
        keys = client._request_signer._credentials.get_frozen_credentials()
        raise ValueError(f"cannot sign with {keys!r}")

    client.meta.events.register_first("before-sign.s3.*", fail)
    with pytest.raises(ValueError, match="cannot sign") as caught:
        client.get_object(Bucket="bucket", Key="key")
    client.close()
    assert minio.secret_key in str(caught.value)
    info = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("s3mount.x", logging.ERROR, __file__, 1, "failed", (), info)
    text = formatter.format(record)
    assert "cannot sign with" in text
    assert minio.secret_key not in text
