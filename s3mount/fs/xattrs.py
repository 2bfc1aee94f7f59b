"""Extended attributes that say how a file stands: from memory, without a request."""

from __future__ import annotations

import time
from typing import Final

from s3mount.core.filestate import FileState
from s3mount.fs.open_file import OpenFile
from s3mount.fs.open_files import OpenFiles
from s3mount.fs.recent_errors import RecentErrors
from s3mount.meta.inodes import DirectoryNode, FileNode, Node

STATE: Final = b"user.s3mount.state"
LAST_ERROR: Final = b"user.s3mount.last_error"


class StateXattrs:
    """Answers for one mount."""

    def __init__(self, open_files: OpenFiles, errors: RecentErrors) -> None:
        self._open_files = open_files
        self._errors = errors

    def names(self, node: Node) -> list[bytes]:
        """Return the names that *node* has."""
        return [STATE] if self.value(node, LAST_ERROR) is None else [STATE, LAST_ERROR]

    def value(self, node: Node, name: bytes) -> bytes | None:
        """Return the value of *name*, None where there is no such attribute."""
        if name == STATE:
            return self._state(node).encode()
        if name == LAST_ERROR:
            return self._last_error(node)
        return None

    def _state(self, node: Node) -> str:
        if isinstance(node, DirectoryNode):
            below = {id(one) for one in node.descendants()}
            is_unsent = any(id(file.node) in below for file in self._open_files.unsent())
            return "unsent" if is_unsent else FileState.CLEAN.value
        file = self._open_files.file_of(node) if isinstance(node, FileNode) else None
        if file is None or not file.is_unsent:
            return FileState.CLEAN.value
        if file.state is FileState.UPLOADING and node.is_linked:
            return f"{file.state.value} {percent_sent(file)} %"
        return file.state.value

    def _last_error(self, node: Node) -> bytes | None:
        path = node.path()
        record = next((one for one in self._errors if one.path == path), None)
        if record is None:
            return None
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.at_s))
        return f"{at} {record.operation} {record.error}: {record.message}".encode("utf-8", "backslashreplace")


def sent_bytes(file: OpenFile) -> int:
    """Return how many bytes of an upload in parts the server has; 0 for one request until its end."""
    upload = None if file.spool is None else file.spool.record.upload
    return 0 if upload is None else min(file.node.size, sum(part.size for part in upload.parts))


def percent_sent(file: OpenFile) -> int:
    """Return how much of *file* the server has, in percent."""
    return 100 * sent_bytes(file) // file.node.size if file.node.size else 0
