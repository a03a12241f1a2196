"""Data sets that an edition of a challenge forbids encoders to be trained on: what saw them is refused."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from abaw.backbones.lineage import NOT_SAID, read_lineage, sets_of_training
from abaw.core.errors import UsageError, did_you_mean
from abaw.datasets.layouts import look_through
from abaw.store import FeatureStore

SETS = {"affwild2": "aff-wild2", "mtl": "aff-wild2"}  # by layout; s-Aff-Wild2 consists of its frames


def sets_in(data: Path, images: Sequence[str] = ()) -> set[str]:
    """Names of the data sets in a data folder, by their layouts; or of sets of still images, as they were called."""
    if images:
        return {name.lower() for name in images}
    return {SETS.get(layout, layout) for layout in look_through(data).layouts}


def check_name(forbidden: Iterable[str]) -> None:
    """Raise a UsageError for a name that is nearly one of those that abaw gives to data sets."""
    for name in forbidden:
        hint = did_you_mean(name.lower(), ["aff-wild2"]) if name.lower() != "aff-wild2" else ""
        if hint:
            raise UsageError(f"--forbid names no data set {name!r}. {hint.strip()}")


def check_files(files: Iterable[Path], forbidden: Sequence[str]) -> None:
    """Raise a UsageError for weights that were trained on a forbidden data set, as far as they say so."""
    for file in files:
        _check(f"The encoder in {file}", sets_of_training(read_lineage(file)), forbidden)


def check_folder(data: Path, images: Sequence[str], forbidden: Sequence[str]) -> None:
    """Raise a UsageError if an encoder would be trained on a forbidden data set."""
    if forbidden and (seen := sets_in(data, images) & {name.lower() for name in forbidden}):
        where = "--images" if images else str(data)
        raise UsageError(
            f"{where} is {seen.pop()}, on which --forbid lets no encoder be trained. Train it on other images."
        )


def check_features(store: FeatureStore, features: Iterable[str], forbidden: Sequence[str]) -> None:
    """Raise a UsageError for features of a store whose encoder was trained on a forbidden data set."""
    for feature in features if forbidden else ():
        trained_on = store.feature_attrs(feature)["spec"].get("trained_on", {})
        _check(f"The encoder of feature {feature}", sets_of_training(trained_on), forbidden)


def check_seen(run: str, seen: Iterable[str], forbidden: Sequence[str]) -> None:
    """Raise a UsageError for a fine-tuned run whose encoder has seen a forbidden data set."""
    _check(f"The encoder of run {run}", seen, forbidden)


def _check(what: str, sets: Iterable[str], forbidden: Sequence[str]) -> None:
    names = set(sets)
    if wrong := names & {name.lower() for name in forbidden}:
        raise UsageError(f"{what} was trained on {wrong.pop()}, which --forbid rules out. Choose another encoder.")
    if forbidden and NOT_SAID in names:
        raise UsageError(
            f"{what} was fine-tuned, and does not say on which data set. Fine-tune it again, or choose another."
        )
