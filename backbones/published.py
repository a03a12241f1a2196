"""Public checkpoints of the backbones: where they are published, which are present, and which can be downloaded."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from abaw.backbones.published_files import KNOWN, KnownWeights
from abaw.backbones.registry import Family, find_backbone, list_families
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.weights_folder import FOLDER, find_weights_file, weights_folder
from abaw.core.errors import CheckpointError, UsageError

State = Literal["have", "get", "by hand"]


@dataclass(frozen=True)
class FamilyWeights:
    """The weights of one family: what is published, and what is present.

    Attributes:
        backbones: names.
        family: name.
        sources: published checkpoints.
        file: the file or folder that is used by default; None if missing.
        where: the same in words; "" if missing.
        licence: in a word.
        terms: what to know before using the weights.
    """

    backbones: tuple[str, ...]
    family: str
    sources: tuple[KnownWeights, ...]
    file: Path | None
    where: str
    licence: str
    terms: str

    @cached_property
    def agrees(self) -> bool | None:
        """Whether `file` is one of the published files; None if unknown. Reads the file on first use."""
        return _agrees(self.file, self.sources)

    @property
    def state(self) -> State:
        """Whether the weights are present, can be downloaded, or have to be obtained by hand."""
        if self.where:
            return "have"
        return "get" if self.command else "by hand"

    @property
    def command(self) -> str:
        """The command that downloads the weights; "" if they cannot be downloaded."""
        return _command(self.family, self.sources)

    @property
    def line(self) -> str:
        """The state in a few words."""
        if self.where:
            return "have it: " + self.where + (", not the published file" if self.agrees is False else "")
        if self.command:
            return f"can get it: {self.command}"
        return f"by hand, from {', '.join(dict.fromkeys(published_file.by for published_file in self.sources)) or 'its authors'}"


def weights_at_hand() -> list[FamilyWeights]:
    """Every family that needs weights, with its public checkpoints and its default file."""
    return [weights_of(family.specs[0], _names(family)) for family in list_families() if family.has_weights]


def weights_of(spec: BackboneSpec, names: Sequence[str]) -> FamilyWeights:
    """The published checkpoints of a family, and the weights that are present. No file is read."""
    sources = _sources(spec)
    file, where = _find(spec, sources)
    licence = next((source.licence for source in sources if source.licence), "") or _in_a_word(spec.licence)
    return FamilyWeights(tuple(names), spec.family, sources, file, where, licence, spec.licence or licence)


def weights_in_brief(spec: BackboneSpec) -> tuple[State | Literal[""], str]:
    """Whether the weights of a backbone are present, and their licence in a word. No file is read.

    The state is empty for a backbone without weights.
    """
    if spec.weights == "none":
        return "", _in_a_word(spec.licence)
    weights = weights_of(spec, (spec.name,))
    return weights.state, weights.licence


def _find(spec: BackboneSpec, sources: Sequence[KnownWeights]) -> tuple[Path | None, str]:
    """The file or folder that is used by default, and where the weights are in words; None and empty if missing."""
    file = find_weights_file(spec)
    if file:
        return file, file.name + ("/" if file.is_dir() else "")
    if spec.weights == "shipped":
        return None, "comes with abaw"
    if spec.weights == "timm" and _in_cache_of_hub(sources):
        return None, "in the cache of Hugging Face"
    return None, ""


def find_weights(name: str) -> FamilyWeights:
    """The weights of a family or backbone by name, such as `timm/<model>`.

    Raises:
        UsageError: no family or backbone has this name, or it has no weights.
    """
    for family in list_families():
        if name == family.name and family.has_weights:
            return weights_of(family.specs[0], _names(family))
    spec, family = find_backbone(name)
    if spec.weights == "none":
        raise UsageError(f"Backbone {name} has no weights to get.")
    return weights_of(spec, _names(family) if family.name == spec.family else (spec.name,))


def _names(family: Family) -> tuple[str, ...]:
    return tuple(spec.name for spec in family.specs)


def command_to_get(spec: BackboneSpec) -> str:
    """The command that downloads a family's weights; "" if they cannot be downloaded."""
    return _command(spec.family, _sources(spec))


def _command(family: str, sources: Sequence[KnownWeights]) -> str:
    return f"abaw weights get {family}" if any(source.can_be_fetched for source in sources) else ""


def _sources(spec: BackboneSpec) -> tuple[KnownWeights, ...]:
    """The published checkpoints of a family."""
    return tuple(source for source in KNOWN if source.family == spec.family) or _of_timm(spec)


def describe_by_hand(weights: FamilyWeights) -> str:
    """A sentence about how to obtain weights that cannot be downloaded, and where to put them."""
    published_file = weights.sources[0] if weights.sources else None
    author = (
        f"{published_file.by} ({published_file.source})"
        if published_file and published_file.source
        else (published_file.by if published_file else "its authors")
    )
    stem = weights.family.replace("/", "-")
    return (
        f"The weights of {weights.family} have to be obtained by hand, from {author}. Put the file into "
        f"{weights_folder()} as {stem}.pth, or pass it as `--backbone {weights.backbones[0]}:FILE`."
    )


def describe_folder() -> str:
    """A sentence about the weights folder."""
    named = bool(os.environ.get(FOLDER))
    return f"Weights are in {weights_folder()} " + (
        "(ABAW_WEIGHTS)." if named else "(the default; ABAW_WEIGHTS names another folder)."
    )


def as_json(weights: Sequence[FamilyWeights]) -> dict[str, Any]:
    """The state of all weights as one JSON object."""
    rows = [
        {
            "family": family_weights.family,
            "backbones": list(family_weights.backbones),
            "state": family_weights.state,
            "file": str(family_weights.file) if family_weights.file else None,
            "published_file": family_weights.agrees,
            "get": family_weights.command or None,
            "licence": family_weights.licence,
            "sources": [
                {"name": published_file.name, "by": published_file.by, "url": published_file.source}
                for published_file in family_weights.sources
            ],
        }
        for family_weights in weights
    ]
    return {"folder": str(weights_folder()), "weights": rows}


def _of_timm(spec: BackboneSpec) -> tuple[KnownWeights, ...]:
    """The repository of a timm model; several models may share one."""
    if spec.weights != "timm":
        return ()
    import timm

    model = (spec.network or spec.family).removeprefix("timm/")
    config = None if ":" in model else timm.get_pretrained_cfg(model, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        return ()
    page, name = f"https://huggingface.co/{config.hf_hub_id}", config.hf_hub_filename or "model.safetensors"
    return (KnownWeights(name, spec.family, page, "timm", hub=config.hf_hub_id),)


def _in_cache_of_hub(sources: Sequence[KnownWeights]) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(published_file.hub, published_file.name), str)
        for published_file in sources
        if published_file.hub
    )


def _in_a_word(licence: str) -> str:
    """`Apache-2.0 (timm); trained on ImageNet` -> `Apache-2.0`."""
    word = re.split(r" \(|[;:,]", licence.removeprefix("code "))[0].strip()
    return word if len(word) <= 16 else "see its page"


def _agrees(file: Path | None, sources: Sequence[KnownWeights]) -> bool | None:
    """Whether a file is one of the published ones; None if unknown."""
    checkable = [
        published_file
        for published_file in sources
        if (published_file.md5 or published_file.sha256) and not published_file.saved_as
    ]
    if file is None or not checkable or not file.is_file():
        return None
    return any(is_as_published(file, published_file) for published_file in checkable)


def is_as_published(file: Path, published_file: KnownWeights) -> bool:
    """Whether the digest of a file begins with the published digits; True if no digest is published."""
    published = [
        (kind, digits) for kind, digits in (("md5", published_file.md5), ("sha256", published_file.sha256)) if digits
    ]
    for kind, digits in published:
        with file.open("rb") as stream:
            if not hashlib.file_digest(stream, kind).hexdigest().startswith(digits):
                return False
    return True


def check_known(weights: FamilyWeights) -> None:
    """Check that weights are present or can be downloaded.

    Raises:
        CheckpointError: they have to be obtained by hand; the message says from whom.
    """
    if not weights.command and not weights.where:
        raise CheckpointError(describe_by_hand(weights))
