"""Videos that the encoder of a stored feature was trained on: scores on them say too much."""

from collections.abc import Collection, Sequence

from abaw.core.errors import some_of
from abaw.store import FeatureStore

SHOWN_VIDEOS = 3


def warn_of_seen(store: FeatureStore, features: Sequence[str], videos: Collection[str], split: str) -> list[str]:
    """A warning for each feature whose encoder was fine-tuned on videos of a split that is to be scored."""
    warnings = []
    for feature in features:
        trained_on = store.feature_attrs(feature)["spec"].get("trained_on", {})
        seen = sorted(set(trained_on.get("videos", ())) & set(videos))
        if seen:
            warnings.append(
                f"The encoder of {feature} was fine-tuned on {len(seen)} of the {len(videos)} videos of {split} "
                f"({some_of(seen, SHOWN_VIDEOS)}): their scores are too good."
            )
    return warnings
