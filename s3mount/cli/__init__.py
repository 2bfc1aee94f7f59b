"""The ``s3mount`` command, one file a command. May import everything; nothing imports it.

Each command module has ``add_parser(commands)``, and sets ``run(arguments) -> exit code`` as its parser's
default; what is slow to import is imported inside ``run``, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from s3mount.cli import mount8
from s3mount.cli.parser import parse
from s3mount.core.exits import Exit
from s3mount.errors import StartupError
from s3mount.logs import redact

_SHOW_TRACEBACK = "S3MOUNT_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every expected failure is one line on standard error."""
    call = mount8.Call([])
    try:
        call = mount8.call_of(sys.argv) if argv is None else mount8.Call(list(argv))
        arguments = parse(call.words)
        arguments.call = call
        return call.exit_code(int(arguments.run(arguments)))
    except StartupError as error:
        say_failure(error)
        return call.exit_code(error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output (`s3mount mount --help | head`) has seen enough.
        sys.stderr.close()
        return int(Exit.FAILURE)
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        say_failure(_bug(error))
        return int(Exit.FAILURE)


def _bug(error: Exception) -> StartupError:
    """Return the line for what nobody foresaw: enough to find it, without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "nowhere"
    return StartupError(
        "bug",
        f"{redact(str(error)) or 'no message'} ({type(error).__name__} at {where})",
        f"please report it; {_SHOW_TRACEBACK}=1 in the environment shows more",
        Exit.FAILURE,
    )


def say_failure(error: StartupError) -> None:
    """Write ``s3mount: THING: CAUSE; ADVICE`` to standard error, as one line whatever is in it."""
    line = " ".join(str(error).split())
    print(f"s3mount: {line}", file=sys.stderr, flush=True)
