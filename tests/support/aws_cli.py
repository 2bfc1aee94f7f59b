#!/usr/bin/env python3
"""The few commands of the AWS CLI that the documentation's examples use, with its output format.

The CLI itself pins a botocore of its own, so it cannot be installed beside the one under test.
Commands: ``aws s3 cp - s3://BUCKET/KEY`` and back, ``aws s3api OPERATION --name value…`` with ``--query``
and ``--output``. The endpoint and the keys come from the environment, as for the CLI.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import jmespath
from botocore import xform_name
from botocore.config import Config


def main(arguments: list[str]) -> None:
    """Carry out one command."""
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    try:
        if arguments[:2] == ["s3", "cp"]:
            copy(client, *arguments[2:])
        elif arguments[:1] == ["s3api"]:
            call(client, arguments[1], arguments[2:])
        else:
            raise SystemExit(f"aws: this stand-in does not know {arguments}")
    finally:
        client.close()


def copy(client: Any, source: str, target: str, *more: str) -> None:
    """Copy standard input to an object, with ``--metadata name=value``, or an object to standard output."""
    if source == "-":
        bucket, key = _split(target)
        assert more[::2] in ((), ("--metadata",)), more
        metadata = dict(pair.split("=", 1) for pair in more[1::2])
        client.put_object(Bucket=bucket, Key=key, Body=sys.stdin.buffer.read(), Metadata=metadata)
    else:
        bucket, key = _split(source)
        with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            sys.stdout.buffer.write(body.read())


def call(client: Any, operation: str, arguments: list[str]) -> None:
    """Call one operation of the service and print what ``--query`` selects of its answer."""
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    query = given.pop("--query", "@")
    output = given.pop("--output", "json")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[_python(operation)])
    names = {"--" + xform_name(name, "-"): name for name in model.input_shape.members}
    answer = getattr(client, _python(operation))(**{names[name]: value for name, value in given.items()})
    answer.pop("ResponseMetadata")
    found = jmespath.search(query, answer)
    print(_text(found) if output == "text" else json.dumps(found, indent=4, default=str))


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def _python(operation: str) -> str:
    return operation.replace("-", "_")


def _text(found: Any) -> str:
    """Format as ``--output text``: values apart by tabs, the lists of a list on lines of their own."""
    if not isinstance(found, list):
        return "None" if found is None else str(found)
    if any(isinstance(item, list) for item in found):
        return "\n".join(_text(item) for item in found)
    return "\t".join(_text(item) for item in found)


if __name__ == "__main__":
    main(sys.argv[1:])
