"""The precision in which the network of a feature computes."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from abaw.core.errors import StoreError
from abaw.core.files import Place
from abaw.core.names import without_view
from abaw.core.records import FLOAT32, precision_of
from abaw.extract.feature import Feature
from abaw.store import FeatureStore

BFLOAT16 = "bfloat16"
PRECISIONS = {"fp32": FLOAT32, "bf16": BFLOAT16}  # names of options
AUTO = "auto"


@dataclass(frozen=True)
class Precisions:
    """Chooses the precision of each feature.

    Attributes:
        option: "fp32", "bf16", or "auto": the one that the feature has in the store, else the default.
        default: "float32" or "bfloat16".
        stored: precision by feature, for those in the store; empty where it is unknown.
    """

    option: str
    default: str
    stored: dict[str, str]

    def is_open(self, feature: str) -> bool:
        """True if neither the option nor the store says it."""
        return self.option == AUTO and not any(without_view(name) == without_view(feature) for name in self.stored)

    def of(self, feature: str) -> str:
        """The precision of a feature; its views get the same one where the store allows it."""
        if self.option != AUTO:
            return PRECISIONS[self.option]
        base = without_view(feature)
        views = (name for name in self.stored if name.startswith(f"{base}@"))
        return next((self.stored[name] for name in (feature, base, *views) if self.stored.get(name)), self.default)


def stored_precisions(location: Place, bases: Iterable[str]) -> dict[str, str]:
    """Precision by feature for stored features and their views, "" if unknown; empty if there is no store yet.

    Args:
        location: of the store.
        bases: names of features without a view.
    """
    names, precisions = set(bases), {}
    with suppress(StoreError):  # reported when the store is opened for writing
        store = FeatureStore.open(location)
        for name in store.features():
            if without_view(name) in names:
                precision = precision_of(store.feature_record(name))
                precisions[name] = str(precision) if precision in PRECISIONS.values() else ""
    return precisions


def single_precision(
    features: Sequence[Feature], option: Literal["auto", "fp32", "bf16"]
) -> Literal["auto", "fp32", "bf16"]:
    """The option with which other processes compute these features in the same precision.

    "auto" if the features differ: then the store says which precision each has.
    """
    if option != AUTO:
        return option
    precisions = {feature.backbone.precision for feature in features if not feature.backbone.is_float32_only}
    if len(precisions) != 1:
        return AUTO
    return "fp32" if precisions == {FLOAT32} else "bf16"


def describe_precisions(features: Sequence[Feature]) -> str:
    """A line with the features that are computed in each precision; views go with their feature."""
    names: dict[str, dict[str, None]] = {}
    for feature in features:
        names.setdefault(feature.backbone.precision, {})[without_view(feature.name)] = None
    line = "; ".join(f"{precision} for {', '.join(of)}" for precision, of in sorted(names.items()))
    tried: dict[str, dict[str, None]] = {}
    for feature in features:
        if feature.why_precision:
            tried.setdefault(feature.why_precision, {})[without_view(feature.name)] = None
    trials = "; ".join(f"{', '.join(of)} in bfloat16: {trial}" for trial, of in tried.items())
    why = f" ({trials})" if trials else ""
    return f"Precision: {line}{why}."


def describe_compiled(features: Sequence[Feature]) -> str:
    """A line for a request to compile: what is compiled, and that it takes time."""
    names = dict.fromkeys(without_view(feature.name) for feature in features if feature.backbone.compiled)
    if not names:
        return "Nothing is compiled: only networks for images that have weights are."
    return f"Compiled with the first batch, about a minute for each network: {', '.join(names)}."
