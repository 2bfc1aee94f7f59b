"""What can be changed of a mount while it is mounted: by ``s3mount set``, and by SIGHUP from its file."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import trio

from s3mount.config import MountConfig
from s3mount.config.files import ConfigSource
from s3mount.config.mount_options import Chosen
from s3mount.config.options import BY_NAME, OPTIONS, Option, unknown_option
from s3mount.control.protocol import ControlError
from s3mount.errors import StartupError

log = logging.getLogger(__name__)

NOTHING = "none"
"""How `s3mount set` writes that there is to be no cap."""


class Settings:
    """The configuration of a running mount.

    Args:
        hooks: what carries a change of an option out, by the option's name; others cannot be changed.
        forget: lets everything that is known of names be asked again.
        renew: looks for the credentials again; whether there are others.
        source: the file and command line; None where there is no file.
    """

    def __init__(
        self,
        config: MountConfig,
        hooks: Mapping[str, Callable[[Any], None]],
        *,
        forget: Callable[[], Awaitable[Any]],
        renew: Callable[[], Awaitable[bool]],
        source: ConfigSource | None = None,
    ) -> None:
        self.config = config
        self._hooks = hooks
        self._forget = forget
        self._renew = renew
        self._source = source
        self._said = frozenset[str]() if source is None else source.said

    async def change(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Change the options in *texts*, by name, all of them or none; return what has changed.

        Raises: ControlError (an option that does not exist or cannot be changed, or a value that cannot be).
        """
        try:
            values = dict(self._parsed(name, text) for name, text in texts.items())
            return {"changed": await self._apply(values)}
        except StartupError as error:
            raise ControlError(str(error)) from None

    async def reload(self) -> dict[str, Any]:
        """Look for the credentials again, and read the file again: what can be changed is.

        Returns: ``changed``, ``kept`` (names of what cannot be changed), ``has_new_credentials``.
        Raises: ControlError (the file has faults, and nothing of it was taken).
        """
        has_new = await self._renew()
        if self._source is None:
            return {"changed": [], "kept": [], "has_new_credentials": has_new}
        try:
            again = await trio.to_thread.run_sync(self._source.read_again)
            differing = self._differing(again.config, again.said | self._said)
            values = {
                one.field: getattr(again.config, one.field) for one in differing if one.name in self._hooks
            }
            changed = await self._apply(values)
        except StartupError as error:
            raise ControlError(str(error)) from None
        self._said = again.said
        flags = set(again.config.mount_options) ^ set(self.config.mount_options)
        kept = [one.name for one in differing if one.name not in self._hooks]
        kept += [*again.moved, *sorted(flags)]
        for name in kept:
            log.warning("%s cannot be changed while it is mounted: it stays as it was", name)
        return {"changed": changed, "kept": kept, "has_new_credentials": has_new}

    def _differing(self, config: MountConfig, names: frozenset[str]) -> list[Option]:
        """Return those of *names* that are another thing in *config*."""
        return [
            option
            for option in OPTIONS
            if option.name in names and getattr(config, option.field) != getattr(self.config, option.field)
        ]

    def _parsed(self, name: str, text: str) -> tuple[str, Any]:
        option = BY_NAME.get(name.replace("_", "-"))
        if option is None:
            raise unknown_option(name, self._hooks)
        if option.name not in self._hooks:
            raise StartupError(
                f"option {option.name}",
                "it cannot be changed while it is mounted",
                f"umount, and mount again; these can be: {', '.join(self._hooks)}",
            )
        if text == NOTHING and option.default is None:
            return option.field, None
        chosen = Chosen()
        chosen.set(option, text, option.name)
        return option.field, chosen.values[option.field]

    async def _apply(self, values: dict[str, Any]) -> list[dict[str, str]]:
        before = self.config
        if "memory_bytes" in values:
            # What readers look ahead is a part of it, and not an option that can be changed.
            values["read_ahead_bytes"] = min(before.read_ahead_bytes, values["memory_bytes"])
        after = replace(before, **values)
        changed = []
        for option in OPTIONS:
            was, now = getattr(before, option.field), getattr(after, option.field)
            if option.name in self._hooks and was != now:
                self._hooks[option.name](now)
                one = {"name": option.name, "was": _shown(option, was), "now": _shown(option, now)}
                changed.append(one)
                log.info("%s is %s from now on, and was %s", one["name"], one["now"], one["was"])
        self.config = after
        if after.ttl_s < before.ttl_s or after.negative_ttl_s < before.negative_ttl_s:
            await self._forget()
        return changed


def _shown(option: Option, value: Any) -> str:
    return NOTHING if value is None else option.show(value)
