"""The backbones that make a run's features of new videos: by name, checked by fingerprint."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from abaw.errors import CheckpointError, UsageError
from abaw.exchange.importer import new_origin
from abaw.extract.request import ExtractOptions, Request, create_features
from abaw.extract.sink import Feature
from abaw.extract.vision.views import parse_view
from abaw.train.runs import Run


def load_features(run: Run, backbones: Sequence[str], device: str = "auto", untrained: bool = False) -> list[Feature]:
    """The backbones of a run's features, with the weights that they were made with.

    Args:
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of those whose backbone or weights are not the default ones.
        device: "auto" takes a GPU if there is one.
        untrained: random weights.

    Raises:
        UsageError: a feature was imported, or has a name that no backbone has; a backbone is not of the run.
        CheckpointError: weights are missing, or they or settings are others than the run's.
    """
    given = {Request.parse(text).feature: text for text in backbones}
    bases = {name: name.partition("@")[0] for name in run.config.features}
    unknown = [name for name in given if name not in bases.values()]
    if unknown:
        raise UsageError(
            f"Run {run.name} takes no feature {unknown[0]!r}; it takes {', '.join(dict.fromkeys(bases.values()))}. Name "
            "the feature before the backbone: --backbone NAME=BACKBONE[:WEIGHTS]."
        )
    for name in run.config.features:
        _check_not_imported(run, name)
    texts = tuple(given.get(base) or _default_text(run, base) for base in dict.fromkeys(bases.values()))
    loaded = create_features(ExtractOptions(Path(), Path(), texts, device=device, untrained=untrained))
    plain = {feature.name: feature for feature in loaded}
    features = []
    for name, base in bases.items():
        view = name.partition("@")[2]
        feature = replace(plain[base], name=name, view=parse_view(view)[0] if view else "")
        _check_fingerprint(run, feature)
        features.append(feature)
    return features


def _check_not_imported(run: Run, name: str) -> None:
    made = run.features[name]
    if any(
        new_origin(name, tuple(made["shape"]), kind).fingerprint == made["fingerprint"] for kind in ("vision", "audio")
    ):
        raise UsageError(
            f"Run {run.name} was trained on feature {name!r} that was imported, and nobody can tell which network makes "
            "it of a video. Extract the features with `abaw extract` and train on these."
        )


def _default_text(run: Run, base: str) -> str:
    """The backbone that a feature is named after."""
    names = [base, base.replace("-", "/", 1)] if base.startswith("timm-") else [base]
    for name in reversed(names):
        with suppress(UsageError):
            Request.parse(name)
            return f"{base}={name}"
    raise UsageError(
        f"Run {run.name} takes feature {base!r}, which is not named after a backbone. Say which one makes it: "
        f"--backbone {base}=BACKBONE[:WEIGHTS]."
    )


def _check_fingerprint(run: Run, feature: Feature) -> None:
    wanted = run.features[feature.name]["fingerprint"]
    found = feature.backbone.fingerprint(feature.spec, feature.view)
    if found != wanted:
        base = feature.name.partition("@")[0]
        raise CheckpointError(
            f"Run {run.name} was trained on feature {feature.name!r} with fingerprint {wanted[:12]}; {feature.spec.name} "
            f"here has {found[:12]}: other weights or settings. Give the weights that it was extracted with: "
            f"--backbone {base}={feature.spec.name}:WEIGHTS."
        )
