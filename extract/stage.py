"""The first stage in steps: open everything, plan, run groups of videos. One process takes all steps; on a cluster the
driver plans and the workers run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from abaw.backbones.backbone import describe
from abaw.core.errors import StoreError, UnreachableError
from abaw.core.progress import Reporter, Silent, Summary
from abaw.core.records import GIVEN
from abaw.datasets.dataset import Dataset
from abaw.datasets.layouts import open_dataset
from abaw.extract.audio_runner import AudioRunner
from abaw.extract.crop_alignment import Alignments
from abaw.extract.feature import Feature
from abaw.extract.label_writer import left_over_labels, write_labels
from abaw.extract.plan import ExtractionPlan, Reading, own_part, plan_extraction
from abaw.extract.precision import describe_precisions, single_precision
from abaw.extract.request import BATCH_SIZES, ExtractOptions, Request, create_features
from abaw.extract.runner import Runner
from abaw.store import FeatureStore
from abaw.store.location import room_for


@dataclass(frozen=True)
class Stage:
    """An extraction, opened: its networks are loaded, and its features are known to the store."""

    options: ExtractOptions
    dataset: Dataset
    store: FeatureStore
    features: tuple[Feature, ...]
    notes: tuple[str, ...] = ()  # sentences on how it will be done

    @classmethod
    def open(cls, options: ExtractOptions, failed: dict[str, str] | None = None, on_gpu: bool | None = None) -> "Stage":
        """Load networks, find videos, register features.

        Args:
            failed: takes, by the feature's name, what was wrong with backbones that are left out; the options of the
                stage are without them.
            on_gpu: whether it will be done on a GPU; None where that is this process's own.

        Raises:
            AbawError: no data, unknown backbones, no weights, another fingerprint, no space.
        """
        whole = open_dataset(options.data, options.fps)
        dataset, crops = own_part(whole, options.part), Alignments.of(whole)
        left_out: dict[str, str] = {}
        features = create_features(options, None if failed is None else left_out, on_gpu)
        features = [
            replace(feature, alignment=crops.alignment if feature.spec.modality == "vision" else GIVEN)
            for feature in features
        ]
        notes = [crops.note()] if any(feature.spec.modality == "vision" for feature in features) else []
        with room_for(options.store):
            store = FeatureStore.create(options.store)
            kept, unsure = _register(store, crops, features, None if failed is None else left_out)
        notes += [*unsure, describe_precisions(kept)]
        options = replace(options, precision=single_precision(kept, options.precision))
        if left_out and failed is not None:
            failed |= left_out
            others = [text for text in options.backbones if Request.parse(text).feature not in left_out]
            options = replace(options, backbones=tuple(others))
        return cls(options, dataset, store, kept, tuple(filter(None, notes)))

    def plan(self, summary: Summary, reporter: Reporter | None = None) -> ExtractionPlan:
        """Write the labels, and find what the videos still lack."""
        summary.warnings += dict.fromkeys(note for feature in self.features for note in feature.backbone.notes)
        with room_for(self.options.store):
            write_labels(self.dataset, self.store, summary)
        # all parts would say the same, and a label file with an error is left out as a whole
        if not (self.options.part or summary.label_errors):
            summary.warnings += left_over_labels(self.dataset, self.store)
        return plan_extraction(self.dataset, self.store, self.features, summary, reporter or Silent())

    def run(
        self,
        groups: Mapping[tuple[str, ...], Iterable[str]],
        summary: Summary,
        on_frames: Callable[[int], None],
    ) -> None:
        """Extract; what was done, and what failed, goes into the summary.

        Args:
            groups: names of videos by the names of the features that they lack.
            on_frames: called with numbers of frames that are through.
        """
        device = self.features[0].backbone.device.type
        batch_size = self.options.batch_size or BATCH_SIZES.get(device, BATCH_SIZES["cpu"])
        by_name = {video.name: video for video in self.dataset.videos}
        for pending, names in groups.items():
            videos = [by_name[name] for name in names]
            wanted = [feature for feature in self.features if feature.name in pending]
            vision, audio = ([f for f in wanted if f.spec.modality == kind] for kind in ("vision", "audio"))
            if vision:
                reading = Reading(self.dataset, self.store, [f.name for f in vision], summary, on_frames)
                runner = Runner(self.store, vision, batch_size, on_frames)
                summary.add(runner.run(reading.frame_sources(videos)))
            if audio and not summary.stopped:
                reading = Reading(self.dataset, self.store, [f.name for f in audio], summary, on_frames)
                summary.add(AudioRunner(self.store, audio, on_frames).run(reading.sound_sources(videos)))
            if summary.stopped:
                break


def _register(
    store: FeatureStore, crops: Alignments, features: list[Feature], failed: dict[str, str] | None
) -> tuple[tuple[Feature, ...], list[str]]:
    """Make features known to the store; those that it holds made otherwise go into `failed`, with all their views.

    Returns:
        The others, and what is to be said of them.
    """
    errors: dict[str, StoreError] = {}
    notes: list[str] = []
    for feature in features:
        try:
            if feature.spec.modality == "vision":
                notes.append(crops.check_old(store, feature.name))
            told = describe(feature.backbone, feature.spec, feature.view, feature.alignment)
            store.add_feature(feature.name, **told)
        except StoreError as error:
            if failed is None or isinstance(error, UnreachableError):
                raise
            errors.setdefault(feature.name.partition("@")[0], error)
    kept = tuple(feature for feature in features if feature.name.partition("@")[0] not in errors)
    if errors and not kept:
        raise next(iter(errors.values()))
    if failed is not None:
        failed |= {name: str(error) for name, error in errors.items()}
    return kept, notes
