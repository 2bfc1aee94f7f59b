"""What a mount can be asked, by the names that the protocol has for it.

=========  ===========================  ==================================================================
command    arguments                    answer
=========  ===========================  ==================================================================
status     --                           status: ``core.status.MountStatus``
wait       path, timeout_s              is_done, files, left, held, is_over: ``control.waiting.Outcome``
flush      path, timeout_s              the same, and open: what a program has open for writing, not sent
explain    path or errno                errors: ``core.status.ErrorRecord``, the last one first; uploads there
refresh    path                         names: how many are asked for again
top        --                           processes: ``core.status.ProcessRequests``; uptime_s
set        values                       changed: name, was, now of each; values is a text for each name
reload     --                           changed; kept: names; has_new_credentials
evict      path                         names: of how many the cached blocks were dropped
=========  ===========================  ==================================================================

``path`` is below the mountpoint and begins with a slash; bytes that are no UTF-8 are surrogates, as Python
has them. Without one the whole mount is meant.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

import trio

from s3mount.control.protocol import ControlError, Request
from s3mount.control.status import Observer, held_files, upload_status
from s3mount.control.waiting import Outcome, is_wanted, wait_sent, waits_for_user
from s3mount.core.filestate import FileState
from s3mount.core.status import MOST_UPLOADS, ProcessRequests, UploadStatus
from s3mount.errors import NotADirectory
from s3mount.fs.open_file import OpenFile
from s3mount.meta.inodes import DirectoryNode, FileNode, Node
from s3mount.meta.namespace import Namespace

LONGEST_WAIT_S: Final = 24 * 3600.0
"""A client that waits for ever may have been forgotten."""
_AT_ONCE: Final = 1000
"""Names that are worked on between two turns of others."""

Invalidate = Callable[[Node], Awaitable[None]]
"""Lets the kernel ask for a name again."""


class Changeable(Protocol):
    """Options that can be changed while it is mounted."""

    async def change(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Change options by name. Raises: ControlError."""

    async def reload(self) -> dict[str, Any]:
        """Read again where they came from. Raises: ControlError."""


class Commands:
    """Carries out what comes through the socket."""

    def __init__(
        self,
        observer: Observer,
        invalidate: Invalidate,
        requests_by_process: Callable[[], list[ProcessRequests]],
        settings: Changeable,
    ) -> None:
        self._observer = observer
        self._services = observer.services
        self._open_files = observer.open_files
        self._invalidate = invalidate
        self._requests_by_process = requests_by_process
        self._settings = settings
        self._commands = {
            "status": self._status,
            "wait": self._wait,
            "flush": self._flush,
            "explain": self._explain,
            "refresh": self._refresh,
            "evict": self._evict,
            "top": self._top,
            "set": self._set,
            "reload": self._reload,
        }

    async def run(self, request: Request) -> dict[str, Any]:
        """Return the answer.

        Cancel: at any time; what is being uploaded goes on.
        Raises: ControlError, FsError.
        """
        command = self._commands.get(request.command)
        if command is None:
            raise ControlError(f"there is no command {request.command!r}")
        return await command(request)

    async def _status(self, request: Request) -> dict[str, Any]:
        return {"status": self._observer.as_json()}

    async def _top(self, request: Request) -> dict[str, Any]:
        uptime_s = self._observer.status().uptime_s
        return {"uptime_s": uptime_s, "processes": [asdict(one) for one in self._requests_by_process()]}

    async def _set(self, request: Request) -> dict[str, Any]:
        values = request.arguments.get("values")
        if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
            raise ControlError("set needs values: a text for each name")
        return await self._settings.change(values)

    async def _reload(self, request: Request) -> dict[str, Any]:
        return await self._settings.reload()

    async def _wait(self, request: Request) -> dict[str, Any]:
        node = await find(self._services.namespace, request.text("path", "/"))
        files = self._unsent_below(node)
        outcome = await wait_sent(
            files,
            self._describe,
            timeout_s=request.seconds("timeout_s", LONGEST_WAIT_S),
            is_over=waits_for_user,
        )
        return self._with_held(outcome, node).as_json()

    async def _flush(self, request: Request) -> dict[str, Any]:
        node = await find(self._services.namespace, request.text("path", "/"))
        files = self._unsent_below(node)
        being_written = [file for file in files if file.state is FileState.DIRTY]
        closed = [file for file in files if file.state is not FileState.DIRTY]
        failures = {file: file.failures for file in closed}
        queue = self._services.queue

        def is_over(file: OpenFile) -> bool:
            has_failed = file.state is FileState.FAILED and file.failures > failures[file]
            return waits_for_user(file) or has_failed or queue.is_held

        queue.hurry()
        outcome = await wait_sent(
            closed,
            self._describe,
            timeout_s=request.seconds("timeout_s", LONGEST_WAIT_S),
            is_over=is_over,
        )
        still_open = [asdict(self._describe(file)) for file in being_written if is_wanted(file)]
        return {**self._with_held(outcome, node).as_json(), "open": still_open}

    async def _explain(self, request: Request) -> dict[str, Any]:
        errors = self._observer.errors
        if "errno" in request.arguments:
            return {"errors": [asdict(one) for one in errors.of_errno(request.text("errno"))], "uploads": []}
        path = request.text("path", "/")
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        known = known_node(self._services.namespace, path)
        unsent = [] if known is None else self._unsent_below(known)
        return {
            "errors": [asdict(one) for one in errors.of_path(shown)],
            "uploads": [asdict(self._describe(file)) for file in unsent[:MOST_UPLOADS]],
        }

    async def _refresh(self, request: Request) -> dict[str, Any]:
        path = request.text("path", "/")
        return {"names": await forget_below(self._services.namespace, self._invalidate, path)}

    async def _evict(self, request: Request) -> dict[str, Any]:
        known = known_node(self._services.namespace, request.text("path", "/"))
        count = 0
        for node in _with_descendants(known):
            if isinstance(node, FileNode):
                self._services.cache.forget(node.key)
                node.pages_etag = None  # the next open drops the kernel's pages too
                count += 1
            if not count % _AT_ONCE:
                await trio.lowlevel.checkpoint()
        return {"names": count}

    def _with_held(self, outcome: Outcome, node: Node) -> Outcome:
        """Return *outcome* with what lost against somebody else's object: the name leads to theirs by now."""
        named = {one.key for one in outcome.left}
        held = [
            one
            for one in held_files(self._services.spool_dir)
            if _is_key_below(node, one.key) and one.key not in named
        ]
        return replace(outcome, held=held, is_over=outcome.is_over or bool(held))

    def _unsent_below(self, node: Node) -> list[OpenFile]:
        below = {id(one) for one in _with_descendants(node)}
        return [file for file in self._open_files.unsent() if id(file.node) in below]

    def _describe(self, file: OpenFile) -> UploadStatus:
        return upload_status(file, self._open_files, self._services)


async def forget_below(namespace: Namespace, invalidate: Invalidate, path: str) -> int:
    """Let the next look at *path* and at everything below it ask the store; return how many names that is."""
    count = 0
    for node in _with_descendants(known_node(namespace, path)):
        forget_what_is_known(node)
        await invalidate(node)
        count += 1
        if not count % _AT_ONCE:
            await trio.lowlevel.checkpoint()
    return count


async def find(namespace: Namespace, path: str) -> Node:
    """Return the node at *path*, asking the store where it must. Raises: as a lookup."""
    node: Node = namespace.table.root
    for name in _names(path):
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(node.path())
        node = await namespace.lookup(node, name)
    return node


def known_node(namespace: Namespace, path: str) -> Node | None:
    """Return the node at *path* if it is known; nothing is asked."""
    node: Node | None = namespace.table.root
    for name in _names(path):
        node = node.children.get(name) if isinstance(node, DirectoryNode) else None
    return node


def forget_what_is_known(node: Node) -> None:
    """Let the next look at *node*, and at what a directory holds, ask the store."""
    if not node.is_root:
        node.fresh_until = node.own_until = 0.0
    if isinstance(node, DirectoryNode):
        node.forget_listing()
        node.absent.clear()
        node.removed.clear()
        node.has_marker = None


def _is_key_below(node: Node, key: str) -> bool:
    if isinstance(node, DirectoryNode):
        return key.startswith(node.location.prefix)
    return isinstance(node, FileNode) and node.key == key


def _names(path: str) -> list[bytes]:
    return [name for name in os.fsencode(path).split(b"/") if name]


def _with_descendants(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [node, *node.descendants()] if isinstance(node, DirectoryNode) else [node]
