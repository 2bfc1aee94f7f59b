"""One LIST before the mount: can this bucket be used, and if not, what has to be put right?"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import trio

from s3mount.core.exits import Exit
from s3mount.core.server_facts import ServerFacts
from s3mount.errors import StartupError
from s3mount.store.client import ClientOptions, build_client, is_aws
from s3mount.store.fields import response_headers
from s3mount.store.hooks import metadata_in_list, page_of
from s3mount.store.startup_errors import Target, explain

PATIENCE: Final = 3
"""The whole check may take so many connect timeouts: look-up and connection, TLS, the answer."""


async def check(options: ClientOptions, prefix: str) -> ServerFacts:
    """List at most one key under *prefix*, once, without the retries that a mount has patience for.

    Returns: what the first answer told.
    Cancel: returns at once; the request ends by itself within the connect timeout's few multiples.
    Raises: StartupError, its text one line, its exit code of the kind of failure.
    """
    deadline_s = options.connect_timeout_s * PATIENCE
    with trio.move_on_after(deadline_s):
        return await trio.to_thread.run_sync(_check, options, prefix, abandon_on_cancel=True)
    raise StartupError(
        f"endpoint {options.endpoint_url or 'of AWS'}",
        f"did not answer within {deadline_s:g} s",
        "check the address and the network, or raise --connect-timeout",
        Exit.STORE_UNREACHABLE,
    )


def _check(options: ClientOptions, prefix: str) -> ServerFacts:
    patience_s = options.connect_timeout_s * PATIENCE
    hurried = replace(options, attempts=1, read_timeout_s=min(options.read_timeout_s, patience_s))
    client = build_client(hurried)
    wants_metadata = not is_aws(client.meta.endpoint_url)
    try:
        with metadata_in_list(wants_metadata):
            answer = client.list_objects_v2(Bucket=options.bucket, Prefix=prefix, MaxKeys=1)
        page = page_of(answer)
    except Exception as exc:
        target = Target(
            endpoint_url=client.meta.endpoint_url,
            bucket=options.bucket,
            prefix=prefix,
            region=client.meta.region_name,
            signed=options.sign_requests,
        )
        raise explain(exc, target) from exc
    finally:
        client.close()
    has_metadata = any(one.headers is not None for one in page.objects)
    is_unknown = wants_metadata and not page.objects
    return ServerFacts(
        server=response_headers(answer).get("server"), list_has_metadata=None if is_unknown else has_metadata
    )
