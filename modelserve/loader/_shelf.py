"""The versions that a loader has, and those that others still have."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, final

from modelserve.loader._version import Version

if TYPE_CHECKING:
    from modelserve import formats

HELD_AFTER = 60.0
"""Seconds after which it is told who still holds a version that the loader let go."""


@final
class Shelf:
    """What is handed out, what can come back, and what was let go but is still held.

    Changes are made under the loader's lock; ``now`` is read without.
    """

    __slots__ = ("_gone", "aside", "before", "now")

    def __init__(self) -> None:
        self.now: Version | None = None
        self.before: Version | None = None
        self.aside: Version | None = None
        """What is too old to be handed out, but may turn out to be what the source holds."""
        self._gone: list[tuple[weakref.ref[Version], float]] = []

    def latest(self) -> Version | None:
        """Return the version that came last from the source, handed out or not."""
        return self.now or self.aside

    def put(self, new: Version, at: float, *, first: bool) -> Version | None:
        """Hand out a version; return the one that this retired."""
        old = self.now
        new.stamp.revive(first=first)
        if self.latest() is not new:
            self._let_go(self.before, at)
            self.before = self.latest()
        self.now, self.aside = new, None
        return _retired(old, new)

    def back(self, before: Version, at: float) -> Version | None:
        """Hand out the version before, and let go the one of now; return it if this retired it."""
        old = self.now
        before.stamp.revive()
        self._let_go(self.latest(), at)
        self.now, self.before, self.aside = before, None, None
        return _retired(old, before)

    def expire(self) -> Version | None:
        """Hand out nothing until there is better, and return what was."""
        old = self.now
        if old is not None:
            self.now, self.aside = None, old
            old.stamp.retire()
        return old

    def clear(self, at: float) -> Version | None:
        """Let everything go; return what was handed out."""
        old = self.now
        for each in (self.now, self.before, self.aside):
            self._let_go(each, at)
        self.now = self.before = self.aside = None
        if old is not None:
            old.stamp.retire()
        return old

    def held(self, at: float) -> list[str]:
        """Tell, each in a few words, which versions were let go a while ago and by whom not."""
        told: list[str] = []
        for ref, since in list(self._gone):
            version = ref()
            if version is not None and at - since >= HELD_AFTER:
                leases = len(version.leases)
                by = f"{leases} lease{'s' * (leases != 1)}" if leases else "a call in flight"
                told.append(
                    f"version {version.stamp.version} is held by {by} for {at - since:.0f} s"
                )
        return told

    def after_fork(self) -> formats.Fate:
        """Keep what lives on in a forked child; say what becomes of the version of now.

        What was let go and is still held is asked, too: its end may be the parent's business.
        """
        of_now: formats.Fate = "keep"
        for version in self._all():
            fate = version.after_fork()
            if version is self.now:
                of_now = fate
            if fate != "keep":
                self._forget(version)
        for ref, _ in self._gone:
            gone = ref()
            if gone is not None and gone.after_fork() != "keep":
                self._forget(gone)
        return of_now

    def _all(self) -> list[Version]:
        return [each for each in (self.now, self.before, self.aside) if each is not None]

    def _forget(self, version: Version) -> None:
        """Leave a version to the parent process."""
        if version.hold is not None:
            version.hold.disown()
        if version is self.now:
            self.now = None
            version.stamp.retire()
        elif version is self.before:
            self.before = None
        elif version is self.aside:
            self.aside = None

    def _let_go(self, version: Version | None, at: float) -> None:
        if version is not None:
            self._gone = [one for one in self._gone if one[0]() is not None]
            self._gone.append((weakref.ref(version), at))


def _retired(old: Version | None, new: Version) -> Version | None:
    if old is None or old.stamp is new.stamp:
        return None
    old.stamp.retire()
    return old
