"""Claims on parts of a store: notes that say who is filling it, so that two drivers do not do the same work.

Several claims are in a store at once if their features or parts differ, so each has a note of its own. Everyone writes a
claim before reading those of others: of two, at least one sees the other. A claim is first `asked`; who sees another that
is at work gives up, and of two that ask the one with the smaller name goes first. No clock decides.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from abaw.core.claim_files import DEAD_S, Claim, describe_busy, describe_lost, living, renewing
from abaw.core.errors import StoreError
from abaw.core.parts import parse_part
from abaw.store import FeatureStore
from abaw.store.location import room_for

ALL = "*"  # in place of features: everything in the store
AT_WORK = "at_work"  # key of a claim: false while it waits for others; claims of older versions lack it
WAIT_S, ASKING_S = 0.1, 10.0  # between two looks at another that asks, too, and for all of them


@contextmanager
def claimed(store: FeatureStore, features: Sequence[str], part: str) -> Iterator[None]:
    """Claim features of a store (or a part of their videos) for as long as the block runs; `ALL` claims everything.

    Raises:
        StoreError: another live driver has claimed some of them, or the store is not writable.
    """
    claim = _StoreClaim(store, features, part)
    try:
        with room_for(store.path):
            claim.take()
        store.sweep()
        with renewing(claim.renew, claim.is_lost):
            yield
    finally:
        with suppress(OSError):  # the store may be gone or read-only by now; this process ends anyway
            store.notes.drop(claim.name)


def check_unclaimed(store: FeatureStore) -> None:
    """Raise a StoreError if a live driver is filling a store; writes nothing."""
    others = _colliding(_read(store), [ALL], "")
    alive = living(_claims(others), lambda: _claims(_colliding(_read(store), [ALL], "")))
    for name in sorted(alive):
        raise _busy(store, others[name], [ALL])


class _StoreClaim:
    """The claim of this process on features of a store."""

    def __init__(self, store: FeatureStore, features: Sequence[str], part: str) -> None:
        self.name = f"claim-{uuid.uuid4().hex}"
        self._store, self._features, self._part = store, list(features), part
        self._claim, self._at_work = Claim.make(), False
        self._dropped: set[str] = set()  # names of claims of dead drivers
        self._looked = _now()

    def renew(self) -> None:
        """Write the note again, with the time."""
        claim = replace(self._claim, beat=time.time())
        content = {"features": self._features, "part": self._part, AT_WORK: self._at_work, **asdict(claim)}
        self._store.notes.write(self.name, json.dumps(content))

    def take(self) -> None:
        """Write the claim, and wait until no other is in the way.

        Raises:
            StoreError: another driver is at work.
        """
        self.renew()
        end = time.monotonic() + ASKING_S
        while others := self._others():
            alive = living(_claims(others), lambda: _claims(self._others()))
            at_work = [name for name in sorted(alive) if others[name][AT_WORK]]
            if at_work or (alive and time.monotonic() > end):
                raise _busy(self._store, others[(at_work or sorted(alive))[0]], self._features)
            if not alive:
                self._drop(others)
            elif min(alive) < self.name:  # that one goes first
                self._store.notes.drop(self.name)
                time.sleep(WAIT_S)
                self.renew()
            else:
                time.sleep(WAIT_S)
        self._at_work = True
        self.renew()

    def is_lost(self) -> str | None:
        """The sentence for an error if the note was dropped, or another driver is at work on the same."""
        now = _now()
        was_suspended = any(
            not 0 <= time_now - then < DEAD_S / 2 for time_now, then in zip(now, self._looked, strict=True)
        )
        try:
            is_there = self._store.notes.has(self.name)
            # who was suspended may have renewed a claim that was dropped
            others = self._others() if was_suspended or not is_there else {}
        except Exception:  # what fsspec's file systems raise has no common type
            return None
        at_work = [content for content in others.values() if content[AT_WORK]]
        if at_work or not is_there:
            return describe_lost(self._store.path, Claim.parse(at_work[0]) if at_work else None)
        self._looked = now
        return None

    def _others(self) -> dict[str, dict[str, Any]]:
        """Claims of others in the way, by the names of their notes; what is none, or was dropped before, is dropped."""
        contents = _read(self._store)
        self._drop(name for name, content in contents.items() if content is None or name in self._dropped)
        contents = {name: content for name, content in contents.items() if name not in (self.name, *self._dropped)}
        return _colliding(contents, self._features, self._part)

    def _drop(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._store.notes.drop(name)
            self._dropped.add(name)


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _read(store: FeatureStore) -> dict[str, dict[str, Any] | None]:
    """The content of each claim by the name of its note; None for a note that is no claim."""
    notes = store.notes.read().items()
    return {name: _parse(text) for name, text in notes if name.startswith("claim-") and not name.endswith(".partial")}


def _parse(text: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(text)
        Claim.parse(content)
        if content["part"]:
            parse_part(content["part"])
        features = [str(feature) for feature in content["features"]]
        return {**content, "features": features, AT_WORK: content.get(AT_WORK, True)}
    except Exception:  # not a claim that abaw wrote
        return None


def _claims(contents: Mapping[str, Mapping[str, Any]]) -> dict[str, Claim]:
    return {name: Claim.parse(content) for name, content in contents.items()}


def _colliding(
    contents: Mapping[str, dict[str, Any] | None], features: Sequence[str], part: str
) -> dict[str, dict[str, Any]]:
    """Those claims that may not be held together with one of some features, or of a part of their videos."""
    return {
        name: content
        for name, content in contents.items()
        if content is not None and _shared(content["features"], features) and _overlap(content["part"], part)
    }


def _shared(features: Sequence[str], others: Sequence[str]) -> list[str]:
    """What both name."""
    if ALL in features:
        return [feature for feature in others if feature != ALL] or [ALL]
    return [feature for feature in features if feature in others or ALL in others]


def _busy(store: FeatureStore, content: Mapping[str, Any], features: Sequence[str]) -> StoreError:
    named = ", ".join(_shared(features, content["features"])).replace(ALL, "features")
    part = f" part {content['part']}" if content["part"] else ""
    return StoreError(describe_busy(f"{named}{part} in {store.path}", Claim.parse(content)))


def _overlap(part: str, other_part: str) -> bool:
    """True unless they are different parts of the same division."""
    if not part or not other_part:
        return True
    (number, total), (other_number, other_total) = parse_part(part), parse_part(other_part)
    return total != other_total or number == other_number
