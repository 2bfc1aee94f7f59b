"""What a server honours, each question answered by experiment, and what follows for the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

#: What each answer of no leaves open, in the user's words: between a check and the act another host can come.
WINDOWS: Final = {
    "put_if_none_match": "creating a file",
    "put_if_match": "changing a file",
    "complete_if_none_match": "creating a file in parts",
    "complete_if_match": "changing a file in parts",
    "copy_source_if_match": "copying a file",
    "copy_part_source_if_match": "copying a file in parts",
}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A fact is True only where it was seen to be so; what nobody has tried is False.

    Args:
        server: the Server header.
        list_has_metadata: LIST carries each object's headers; None where no object was listed.
        put_if_none_match: PUT with ``If-None-Match: *`` creates, and never replaces.
        put_if_match: PUT with If-Match replaces the object of that ETag, and neither another nor none.
        complete_if_none_match, complete_if_match: the same of CompleteMultipartUpload.
        delete_if_match: DELETE with If-Match deletes the object of that ETag and no other.
        copy_if_none_match: CopyObject with ``If-None-Match: *`` never replaces its target.
        copy_source_if_match, copy_part_source_if_match: CopyObject and UploadPartCopy take only the source
            that they name by ETag.
        head_checksum: HEAD gives back the CRC32 of a PUT.
        part_checksums: ListParts gives back the CRC32 of each part.
        lists_in_byte_order: a delimited LIST goes by the bytes of whole keys.
    """

    server: str | None = None
    list_has_metadata: bool | None = None
    put_if_none_match: bool = False
    put_if_match: bool = False
    complete_if_none_match: bool = False
    complete_if_match: bool = False
    delete_if_match: bool = False
    copy_if_none_match: bool = False
    copy_source_if_match: bool = False
    copy_part_source_if_match: bool = False
    head_checksum: bool = False
    part_checksums: bool = False
    lists_in_byte_order: bool = False

    def answered(self, answers: Mapping[str, bool]) -> ServerFacts:
        """Return the facts with *answers* to some of QUESTIONS."""
        changes: dict[str, Any] = {name: answers[name] for name in QUESTIONS if name in answers}
        return replace(self, **changes)

    @property
    def copy_creates_once(self) -> bool:
        """A copy can be made so that it never replaces its target, in one request or in parts."""
        return self.copy_if_none_match or (self.complete_if_none_match and self.put_if_none_match)

    def windows(self) -> list[str]:
        """Return the kinds of write that another host can come between, in the user's words."""
        found = [words for question, words in WINDOWS.items() if not getattr(self, question)]
        return found if self.copy_creates_once else [*found, "renaming without replacing"]


QUESTIONS: Final = tuple(
    one.name for one in fields(ServerFacts) if one.name not in ("server", "list_has_metadata")
)
"""The names of the facts that a probe finds out."""
