"""Runs whose encoders have seen a data set that an edition of a challenge forbids."""

from collections.abc import Sequence

from abaw.backbones.lineage import NOT_SAID
from abaw.evaluate.trained import OpenEnsemble, Predictor, TrainedRun
from abaw.store import FeatureStore
from abaw.train.data.forbidden_sets import check_features, check_name, check_seen
from abaw.train.finetune.encoder_build import SEEN


def check_predictor(predictor: Predictor, store: FeatureStore | None, forbidden: Sequence[str]) -> None:
    """Raise a UsageError if an encoder of a run, or of a run of an ensemble, was trained on a forbidden data set.

    A fine-tuned run is judged by its own encoders, another run by those of its features in the store.
    """
    check_name(forbidden)
    members = predictor.members if isinstance(predictor, OpenEnsemble) else (predictor,)
    for member in members if forbidden else ():
        assert isinstance(member, TrainedRun), "what ensembles consist of"
        if member.run.config.is_of_pixels:
            for feature in member.run.features.values():
                check_seen(member.name, feature.get(SEEN, [NOT_SAID]), forbidden)
        elif store is not None:
            check_features(store, member.features, forbidden)
