"""What a bucket may hold under each key while a mount and a stranger change it and requests fail.

No two bodies are the same, so a body that is read says which write it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Body = bytes | None
"""None: there is no object."""


@dataclass
class KeyModel:
    """One key.

    ``may_be`` are the states that the bucket can be in; one, where nothing is in doubt. ``unsent`` is what
    was written through the mount last and not acknowledged, or acknowledged before the upload: the mount
    goes on trying to store it, and it wins only over what it was to replace (``over``). ``is_owed``: nobody
    can have replaced it after it was sent, so what the bucket lacks of it the spool must have. ``history``
    has all that the key ever had or was to get, ``strange`` what of it was the stranger's.
    """

    may_be: set[Body] = field(default_factory=lambda: {None})
    unsent: bytes | None = None
    over: set[Body] = field(default_factory=set)
    is_owed: bool = False
    history: set[Body] = field(default_factory=lambda: {None})
    strange: set[Body] = field(default_factory=set)

    def possible(self) -> set[Body]:
        """Return what the bucket can hold by now, the mount's queue at work."""
        wins = self.unsent is not None and bool(self.over & self.may_be)
        return self.may_be | {self.unsent} if wins else set(self.may_be)

    def shown(self) -> set[Body]:
        """Return what the mount may show: the bucket's, or this host's own unsent bytes."""
        return self.possible() | ({self.unsent} if self.unsent is not None else set())

    def stored(self, body: bytes) -> None:
        """A close or fsync said that the bucket has *body*."""
        self.history.add(body)
        self.may_be, self.unsent = {body}, None

    def unacknowledged(self, body: bytes) -> None:
        """A close failed, or was answered before the upload."""
        self.history.add(body)
        # A try whose answer was lost counts as the mount's own, and is replaced by the next.
        self.over = self.possible()
        self.may_be = self.possible()
        self.unsent = body
        self.is_owed = True

    def perhaps_created(self) -> None:
        """The file was opened and not written to: if it was made by that, it is empty."""
        if None in self.shown():
            self.unacknowledged(b"")

    def strangers(self, body: Body) -> None:
        """The stranger has put or deleted the object."""
        self.history.add(body)
        self.strange.add(body)
        self.is_owed = False
        self.may_be = {body}

    def removed(self) -> None:
        """unlink, or a rename away, returned 0.

        Of a file that was not sent, it takes away what that was over. An object of the stranger's may stay:
        while there are unsent bytes, nobody here need have seen it.
        """
        unseen = set() if self.unsent is None else self.may_be & self.strange
        self.may_be, self.unsent = {None} | unseen, None

    def perhaps_removed(self) -> None:
        """unlink failed: nobody knows how far it came."""
        self.is_owed = False
        self.may_be = self.possible() | {None}
        self.over = self.over | {None}

    def replaced_by(self, other: KeyModel) -> None:
        """A rename of *other* to this key returned 0; call it before ``other.removed()``."""
        old = self.possible()
        self.history |= other.history
        self.strange |= other.strange
        self.may_be = other.possible() - {None}
        self.unsent, self.is_owed = other.unsent, other.is_owed
        if other.unsent is not None:
            self.may_be |= old
            self.over = set(self.may_be)

    def perhaps_replaced_by(self, other: KeyModel) -> None:
        """A rename of *other* to this key failed: the old name has all it had, the new one perhaps too."""
        self.history |= other.history
        self.strange |= other.strange
        self.may_be = self.possible() | other.shown()
        self.over = self.over | self.may_be
        self.is_owed = other.is_owed = False
        # Where the delete of the old name had no answer, it may have been carried out.
        other.may_be = other.possible() | {None}
        other.over = other.over | {None}

    def observed(self, body: Body) -> None:
        """The bucket was seen to hold *body*."""
        self.may_be = {body}
        if body is not None and body == self.unsent:
            self.unsent = None
