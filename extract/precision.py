"""Which precision the network of a feature computes in."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from abaw.core.errors import StoreError
from abaw.core.files import Place
from abaw.core.records import FLOAT32, precision_of
from abaw.extract.feature import Feature
from abaw.store import FeatureStore

BFLOAT16 = "bfloat16"
PRECISIONS = {"fp32": FLOAT32, "bf16": BFLOAT16}  # as people name them
AUTO = "auto"


@dataclass(frozen=True)
class Precisions:
    """What each feature is to be computed in.

    Attributes:
        asked: "fp32", "bf16", or "auto": what the feature has in the store, or the usual one.
        usual: "float32" or "bfloat16".
        stored: by the names of features that are there.
    """

    asked: str
    usual: str
    stored: dict[str, str]

    def of(self, feature: str) -> str:
        """The precision of a feature, which the plain one and its views share if it can be."""
        if self.asked != AUTO:
            return PRECISIONS[self.asked]
        base = feature.partition("@")[0]
        views = (name for name in self.stored if name.startswith(f"{base}@"))
        return next((self.stored[name] for name in (feature, base, *views) if name in self.stored), self.usual)


def stored_precisions(place: Place, bases: Iterable[str]) -> dict[str, str]:
    """The precision of features of a store and of their views; nothing where there is no store yet.

    Args:
        bases: names of features without a view.
    """
    wanted, found = set(bases), {}
    with suppress(StoreError):  # said where the store is opened for writing
        store = FeatureStore.open(place)
        for name in store.features():
            precision = precision_of(store.feature_record(name)) if name.partition("@")[0] in wanted else None
            if precision in PRECISIONS.values():
                found[name] = str(precision)
    return found


def single_precision(
    features: Sequence[Feature], asked: Literal["auto", "fp32", "bf16"]
) -> Literal["auto", "fp32", "bf16"]:
    """What is to be asked for that others compute these features alike; "auto" where they differ, as the store tells."""
    if asked != AUTO:
        return asked
    found = {feature.backbone.precision for feature in features if not feature.backbone.is_float32_only}
    if len(found) != 1:
        return AUTO
    return "fp32" if found == {FLOAT32} else "bf16"


def describe_precisions(features: Sequence[Feature]) -> str:
    """A line that says what is computed in which precision, views with the feature that they are of."""
    names: dict[str, dict[str, None]] = {}
    for feature in features:
        names.setdefault(feature.backbone.precision, {})[feature.name.partition("@")[0]] = None
    return (
        "Precision: " + "; ".join(f"{precision} for {', '.join(of)}" for precision, of in sorted(names.items())) + "."
    )
