"""What a checkpoint holds, and where in it the weights of a network are: found by the network's keys and shapes.

Containers (mappings, lists) and the prefixes that wrappers put before keys are one and the same here: all tensors of a
file are laid out under dotted keys, and a place is what stands before the wanted ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abaw.backbones.averages import RULE, averaging
from abaw.backbones.opening import open_checkpoint
from abaw.core.errors import CheckpointError, some_of
from abaw.core.state_dicts import SHOWN_KEYS

DEPTH = 8  # of containers inside each other
COUNTERS = "num_batches_tracked"  # files of before 2018 have none
UNDERSCORED = "_"  # stands for all inner words that begin so, as those of torch's own wrappers do
LEAST = 0.1  # of the wanted keys must be there for a place to count
Layout = Mapping[str, torch.Size]
Hits = dict[str, bool]  # wanted keys that are there, and whether they have the right shape


@dataclass(frozen=True)
class Place:
    """Where in a checkpoint a network's keys are.

    Attributes:
        prefix: what stands before them, containers and wrappers, each with a dot after it.
        infix: a word in the middle of some that is not of the network; UNDERSCORED for all that begin with _.
        n_right, n_keys: wanted keys that are there with the right shape, and with any.
    """

    prefix: str = ""
    infix: str = ""
    n_right: int = 0
    n_keys: int = 0

    @property
    def name(self) -> str:
        """The prefix without its last dot."""
        return self.prefix.removesuffix(".")

    @property
    def rank(self) -> int:
        """How early it goes before others that are as good."""
        return averaging(self.words)

    @property
    def words(self) -> list[str]:
        """Of the prefix."""
        return self.prefix.split(".")[:-1]

    def bare(self, key: str) -> str:
        """A key of this place as the network calls it."""
        return _without(key.removeprefix(self.prefix), self.infix)


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a checkpoint.

    Attributes:
        tensors: by dotted key, the keys of containers first.
        homes: for each of them the keys of its containers, "" or with a dot at the end.
        choice: which of several copies is wanted, such as "1" or "student"; "" takes the one that goes first.
    """

    tensors: dict[str, Tensor]
    homes: dict[str, str] = field(default_factory=dict)
    choice: str = ""

    @classmethod
    def of(cls, state: "Mapping[str, Tensor] | Checkpoint") -> "Checkpoint":
        """A bare state dict as a checkpoint."""
        return state if isinstance(state, Checkpoint) else cls(dict(state), dict.fromkeys(state, ""))

    def main(self) -> dict[str, Tensor]:
        """The largest state dict, its keys as they stand; of several as large the one that goes first."""
        home = self._main_home()
        return {
            key.removeprefix(home): value
            for key, value in self.tensors.items()
            if self.homes[key] == home and _has_words(key, self.choice)
        }

    def _main_home(self) -> str:
        sizes: dict[str, int] = {}
        for key, home in self.homes.items():
            sizes[home] = sizes.get(home, 0) + _has_words(key, self.choice)
        most = max(sizes.values(), default=0)
        if not most:
            return ""
        return max((home for home, size in sizes.items() if 2 * size > most), key=lambda home: Place(home).rank)

    def places(self, wanted: Layout) -> list[Place]:
        """Where the wanted keys are, the place to take first; others that are as good after it."""
        found = self._count(wanted)
        best = max(((place.n_right, place.n_keys) for place in found), default=(0, 0))
        if best[1] <= LEAST * len(wanted):
            return self._anywhere()
        equal = [place for place in found if (place.n_right, place.n_keys) == best]
        equal = [place for place in equal if place.rank >= 0] or equal
        equal = sorted(equal, key=lambda place: -place.rank)
        if not self.choice:
            return equal
        chosen = [place for place in found if _has_words(place.prefix, self.choice)]
        if not chosen:
            return self._anywhere()
        first = max(chosen, key=lambda place: (place.name == self.choice, place.n_right, place.n_keys, place.rank))
        return [first, *(place for place in equal if place != first)]

    def _anywhere(self) -> list[Place]:
        """Places for what has no wanted keys as it stands: the largest state dict or what was chosen, and its copies."""
        home = self._main_home()
        first = Place(home if _has_words(home, self.choice) else f"{home}{self.choice}.")
        keys: dict[str, set[str]] = {}
        for key, other in self.homes.items():
            keys.setdefault(other, set()).add(key.removeprefix(other))
        copies = [Place(other) for other, own in keys.items() if own == keys.get(home) and other != home]
        return [first, *(place for place in copies if place.rank >= 0)]

    def _count(self, wanted: Layout) -> list[Place]:
        """Every place where wanted keys are, in the order of the file."""
        counts = {infix: self._count_under(endings, wanted) for infix, endings in self._endings.items()}
        found = []
        for infix, by_prefix in counts.items():
            for prefix, hits in by_prefix.items():
                lesser = ([""] if infix else []) + ([UNDERSCORED] if infix not in ("", UNDERSCORED) else [])
                others = [counts.get(other, {}).get(prefix, {}) for other in lesser]
                if any(hits.keys() & other.keys() for other in others):
                    continue  # keys are there both with the word and without it
                for other in others:
                    hits = {**other, **hits}
                found.append(Place(prefix, infix, sum(hits.values()), len(hits)))
        return found

    def _count_under(self, endings: Mapping[str, list[tuple[str, str]]], wanted: Layout) -> dict[str, Hits]:
        """The hits by prefix."""
        counts: dict[str, Hits] = {}
        for key, shape in wanted.items():
            if not key.endswith(COUNTERS):
                for prefix, whole in endings.get(key, ()):
                    counts.setdefault(prefix, {})[key] = self.tensors[whole].shape == shape
        return counts

    @cached_property
    def _endings(self) -> dict[str, dict[str, list[tuple[str, str]]]]:
        """By infix and ending: what stands before the ending, and the whole key, of every key that has it."""
        found: dict[str, dict[str, list[tuple[str, str]]]] = {"": {}}
        for key in self.tensors:
            words = key.split(".")
            for start in range(len(words)):
                prefix, rest = "".join(f"{word}." for word in words[:start]), words[start:]
                infixes = {UNDERSCORED if word.startswith("_") else word for word in rest[1:-1] if not word.isdecimal()}
                for infix in ("", *infixes):
                    ending = _without(".".join(rest), infix)
                    found.setdefault(infix, {}).setdefault(ending, []).append((prefix, key))
        return found

    def take(self, place: Place, wanted: Layout) -> tuple[dict[str, Tensor], list[str]]:
        """The tensors of a place by the network's keys, and the keys beside it in the same state dict."""
        under = [key for key in self.tensors if key.startswith(place.prefix)]
        homes = {self.homes[key] for key in under if place.bare(key) in wanted} or {place.prefix}
        inside = {place.bare(key): self.tensors[key] for key in under if self.homes[key] in homes}
        beside = [
            key.removeprefix(home)
            for key, home in self.homes.items()
            if home in homes and not key.startswith(place.prefix)
        ]
        return inside, beside


def _without(key: str, infix: str) -> str:
    """A key without an inner word, and without those that begin with _."""
    if not infix:
        return key
    first, *inner = key.split(".")
    last = inner[-1:]
    return ".".join([first, *(word for word in inner[:-1] if word != infix and not word.startswith("_")), *last])


def _has_words(key: str, choice: str) -> bool:
    """True if a key or a prefix has the words of a choice in a row; any has none."""
    return not choice or f".{choice}." in f".{key}"


def describe_places(places: Sequence[Place], choice: str, file_name: str) -> str:
    """A sentence on which of several places was taken, and how to take another; "" where there is nothing to tell."""
    first, *others = places
    if choice or not others:
        return f"Took {first.name} of {file_name}." if not choice and first.rank > 0 else ""
    told = [_shortest(other, first) for other in others if other.prefix]
    ways = "".join(f"; {file_name}#{word} takes {word}" for word in told[:SHOWN_KEYS])
    return f"Took {first.name or 'the bare keys'} of {file_name}, where {len(places)} copies fit: {RULE}{ways}."


def _shortest(place: Place, other: Place) -> str:
    """A word of a place that the other one does not have; all of its words where each is."""
    return next((word for word in place.words if word not in other.words), place.name)


def split_choice(file: Path) -> tuple[Path, str]:
    """`list.pth#1` -> the file and "1"; a file whose own name has a # is taken as it is."""
    name, mark, choice = str(file).rpartition("#")
    if mark and choice and name and not file.exists():
        return Path(name), choice
    return file, ""


def read_checkpoint(file: Path) -> Checkpoint:
    """All tensors of a checkpoint. Runs no code of the file.

    Args:
        file: `FILE`, or `FILE#CHOICE`, see `Checkpoint.choice`.

    Raises:
        CheckpointError: as `open_checkpoint`; there is no tensor under a key, or nothing that is called so.
    """
    path, choice = split_choice(file)
    content = open_checkpoint(path)
    tensors, homes = {}, {}
    for key, home, value in _lay_out(content, "", DEPTH):
        tensors[key], homes[key] = value, home
    if not tensors:
        raise CheckpointError(f"{path} {_describe_lack(content)}")
    checkpoint = Checkpoint(tensors, homes, choice)
    places = homes.values() if choice.isdecimal() else tensors  # blocks have numbers, too
    if not any(_has_words(place, choice) for place in places):
        found = dict.fromkeys(key.split(".")[0] for key in tensors)
        inside = dict.fromkeys(home.removesuffix(".") for home in homes.values())
        names = some_of([name for name in inside if name] or list(found), 2 * SHOWN_KEYS)
        raise CheckpointError(f"{path} has nothing that is called {choice}. After the # goes one of: {names}.")
    return checkpoint


def _lay_out(content: Any, home: str, depth: int) -> Iterator[tuple[str, str, Tensor]]:
    """Every tensor that a mapping has, with its dotted key and its home."""
    if isinstance(content, list | tuple):
        content = {str(index): value for index, value in enumerate(content) if isinstance(value, Mapping)}
    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
        if isinstance(value, Tensor):
            yield f"{home}{key}", home, value.detach()
        else:
            yield from _lay_out(value, f"{home}{key}.", depth - 1)


def _describe_lack(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not a state dict. Save model.state_dict() instead."
    found = some_of([str(key) for key in content], SHOWN_KEYS) or "nothing"
    return f"has no state dict: its keys are {found}. Save the model's state_dict() alone, or under state_dict."
