"""The contents of a checkpoint, and where in it the weights of a network are, by the network's keys and shapes.

Containers (mappings, lists) and the prefixes of wrappers are treated alike: all tensors of a file get dotted keys, and a
location is the prefix of the keys of a network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abaw.backbones.averaged_weights import RULE, averaging
from abaw.backbones.checkpoint_files import open_checkpoint
from abaw.core.errors import CheckpointError, some_of
from abaw.core.state_dicts import SHOWN_KEYS

DEPTH = 8  # of containers inside each other
COUNTERS = "num_batches_tracked"  # missing in files from before 2018
UNDERSCORED = "_"  # matches all inner words that begin with _, as those of torch's own wrappers do
MIN_SHARE = 0.1  # of a network's keys that must be present for a location to count
Layout = Mapping[str, torch.Size]
Hits = dict[str, bool]  # keys of the network that are present, and whether they have the right shape


@dataclass(frozen=True)
class Location:
    """Where in a checkpoint a network's keys are.

    Attributes:
        prefix: of the keys: containers and wrappers, each with a dot after it.
        infix: a word inside some keys that the network does not have; UNDERSCORED for all that begin with _.
        n_right, n_keys: how many keys of the network are present with the right shape, and with any shape.
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
        """Preference over locations that fit equally well; higher comes first."""
        return averaging(self.words)

    @property
    def words(self) -> list[str]:
        """The words of the prefix."""
        return self.prefix.split(".")[:-1]

    def bare(self, key: str) -> str:
        """A key at this location by its name in the network."""
        return _without(key.removeprefix(self.prefix), self.infix)


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a checkpoint.

    Attributes:
        tensors: by dotted key, which begins with the keys of containers.
        containers: for each tensor the keys of its containers, "" or with a dot at the end.
        choice: which of several copies to take, such as "1" or "student"; "" takes the one that ranks first.
    """

    tensors: dict[str, Tensor]
    containers: dict[str, str] = field(default_factory=dict)
    choice: str = ""

    @classmethod
    def of(cls, state: "Mapping[str, Tensor] | Checkpoint") -> "Checkpoint":
        """A bare state dict as a checkpoint."""
        return state if isinstance(state, Checkpoint) else cls(dict(state), dict.fromkeys(state, ""))

    def main(self) -> dict[str, Tensor]:
        """The largest state dict with its keys unchanged; of several as large the one that ranks first."""
        container = self._main_container()
        return {
            key.removeprefix(container): value
            for key, value in self.tensors.items()
            if self.containers[key] == container and _has_words(key, self.choice)
        }

    def _main_container(self) -> str:
        sizes: dict[str, int] = {}
        for key, container in self.containers.items():
            sizes[container] = sizes.get(container, 0) + _has_words(key, self.choice)
        most = max(sizes.values(), default=0)
        if not most:
            return ""
        return max(
            (container for container, size in sizes.items() if 2 * size > most),
            key=lambda container: Location(container).rank,
        )

    def locations(self, layout: Layout) -> list[Location]:
        """Where the keys of a network are: the location to take first, then others that fit equally well."""
        locations = self._count(layout)
        best = max(((location.n_right, location.n_keys) for location in locations), default=(0, 0))
        if best[1] <= MIN_SHARE * len(layout):
            return self._fallback()
        equal = [location for location in locations if (location.n_right, location.n_keys) == best]
        equal = [location for location in equal if location.rank >= 0] or equal
        equal = sorted(equal, key=lambda location: -location.rank)
        if not self.choice:
            return equal
        chosen = [location for location in locations if _has_words(location.prefix, self.choice)]
        if not chosen:
            return self._fallback()
        first = max(
            chosen,
            key=lambda location: (location.name == self.choice, location.n_right, location.n_keys, location.rank),
        )
        return [first, *(location for location in equal if location != first)]

    def _fallback(self) -> list[Location]:
        """Locations where the network's keys do not occur as they are: the largest or the chosen state dict, and its copies."""
        container = self._main_container()
        first = Location(container if _has_words(container, self.choice) else f"{container}{self.choice}.")
        keys: dict[str, set[str]] = {}
        for key, other in self.containers.items():
            keys.setdefault(other, set()).add(key.removeprefix(other))
        copies = [Location(other) for other, own in keys.items() if own == keys.get(container) and other != container]
        return [first, *(location for location in copies if location.rank >= 0)]

    def _count(self, layout: Layout) -> list[Location]:
        """Every location with keys of a network, in the order of the file."""
        counts = {infix: self._count_under(endings, layout) for infix, endings in self._endings.items()}
        locations = []
        for infix, by_prefix in counts.items():
            for prefix, hits in by_prefix.items():
                lesser = ([""] if infix else []) + ([UNDERSCORED] if infix not in ("", UNDERSCORED) else [])
                others = [counts.get(other, {}).get(prefix, {}) for other in lesser]
                if any(hits.keys() & other.keys() for other in others):
                    continue  # keys occur both with the word and without it
                for other in others:
                    hits = {**other, **hits}
                locations.append(Location(prefix, infix, sum(hits.values()), len(hits)))
        return locations

    def _count_under(self, endings: Mapping[str, list[tuple[str, str]]], layout: Layout) -> dict[str, Hits]:
        """The hits by prefix."""
        counts: dict[str, Hits] = {}
        for key, shape in layout.items():
            if not key.endswith(COUNTERS):
                for prefix, whole in endings.get(key, ()):
                    counts.setdefault(prefix, {})[key] = self.tensors[whole].shape == shape
        return counts

    @cached_property
    def _endings(self) -> dict[str, dict[str, list[tuple[str, str]]]]:
        """By infix and ending: the prefix and the whole key of every key with this ending."""
        endings: dict[str, dict[str, list[tuple[str, str]]]] = {"": {}}
        for key in self.tensors:
            words = key.split(".")
            for start in range(len(words)):
                prefix, rest = "".join(f"{word}." for word in words[:start]), words[start:]
                infixes = {UNDERSCORED if word.startswith("_") else word for word in rest[1:-1] if not word.isdecimal()}
                for infix in ("", *infixes):
                    ending = _without(".".join(rest), infix)
                    endings.setdefault(infix, {}).setdefault(ending, []).append((prefix, key))
        return endings

    def take(self, location: Location, layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
        """The tensors at a location by the network's keys, and the other keys of the same state dict."""
        under = [key for key in self.tensors if key.startswith(location.prefix)]
        containers = {self.containers[key] for key in under if location.bare(key) in layout} or {location.prefix}
        inside = {location.bare(key): self.tensors[key] for key in under if self.containers[key] in containers}
        others = [
            key.removeprefix(container)
            for key, container in self.containers.items()
            if container in containers and not key.startswith(location.prefix)
        ]
        return inside, others


def _without(key: str, infix: str) -> str:
    """A key without an inner word, and without those that begin with _."""
    if not infix:
        return key
    first, *inner = key.split(".")
    last = inner[-1:]
    return ".".join([first, *(word for word in inner[:-1] if word != infix and not word.startswith("_")), *last])


def _has_words(key: str, choice: str) -> bool:
    """True if a key or a prefix contains the words of a choice in a row; an empty choice is in every key."""
    return not choice or f".{choice}." in f".{key}"


def describe_locations(locations: Sequence[Location], choice: str, file_name: str) -> str:
    """A sentence on which of several locations was taken, and how to take another; "" if there was no choice."""
    first, *others = locations
    if choice or not others:
        return f"Took {first.name} of {file_name}." if not choice and first.rank > 0 else ""
    choices = [_shortest(other, first) for other in others if other.prefix]
    ways = "".join(f"; {file_name}#{word} takes {word}" for word in choices[:SHOWN_KEYS])
    return f"Took {first.name or 'the bare keys'} of {file_name}, where {len(locations)} copies fit: {RULE}{ways}."


def _shortest(location: Location, other: Location) -> str:
    """A word of a location that the other one does not have; its whole name if there is no such word."""
    return next((word for word in location.words if word not in other.words), location.name)


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
        CheckpointError: as `open_checkpoint`; or the file has no tensors, or nothing by the name of the choice.
    """
    path, choice = split_choice(file)
    content = open_checkpoint(path)
    tensors, containers = {}, {}
    for key, container, value in _flatten(content, "", DEPTH):
        tensors[key], containers[key] = value, container
    if not tensors:
        raise CheckpointError(f"{path} {_describe_missing(content)}")
    checkpoint = Checkpoint(tensors, containers, choice)
    prefixes = containers.values() if choice.isdecimal() else tensors  # blocks have numbers, too
    if not any(_has_words(prefix, choice) for prefix in prefixes):
        first_words = dict.fromkeys(key.split(".")[0] for key in tensors)
        inside = dict.fromkeys(container.removesuffix(".") for container in containers.values())
        names = some_of([name for name in inside if name] or list(first_words), 2 * SHOWN_KEYS)
        raise CheckpointError(f"{path} has nothing called {choice}. Put one of these after the #: {names}.")
    return checkpoint


def _flatten(content: Any, container: str, depth: int) -> Iterator[tuple[str, str, Tensor]]:
    """Every tensor in a mapping, with its dotted key and the prefix of its container."""
    if isinstance(content, list | tuple):
        content = {str(index): value for index, value in enumerate(content) if isinstance(value, Mapping)}
    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
        if isinstance(value, Tensor):
            yield f"{container}{key}", container, value.detach()
        else:
            yield from _flatten(value, f"{container}{key}.", depth - 1)


def _describe_missing(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, not a state dict. Save model.state_dict() instead."
    keys = some_of([str(key) for key in content], SHOWN_KEYS) or "nothing"
    return f"has no state dict: its keys are {keys}. Save the model's state_dict() alone, or under state_dict."
