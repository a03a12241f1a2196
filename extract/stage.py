"""Extraction in three steps: open everything, plan, run groups of videos.

One process does all of them; on a cluster the driver plans and the workers run.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property

from abaw.core.errors import StoreError, UnreachableError
from abaw.core.names import without_view
from abaw.core.progress import OnFrames, Reporter, Silent, Summary
from abaw.core.records import GIVEN
from abaw.datasets.clips import note_spectrograms
from abaw.datasets.crop_quality import FaceTables
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import Video
from abaw.datasets.sound_files import find_sound_files
from abaw.datasets.transcripts import Transcripts, describe_transcripts, find_transcripts
from abaw.extract.audio_runner import AudioRunner
from abaw.extract.crop_alignment import Alignments
from abaw.extract.decoding import decoder_on, decoder_option, with_decoder
from abaw.extract.faces.followed_videos import FollowedVideo
from abaw.extract.feature import Feature
from abaw.extract.label_writer import stale_labels, write_labels
from abaw.extract.plan import ExtractionPlan, Reading, plan_extraction
from abaw.extract.precision import describe_compiled, describe_precisions, single_precision
from abaw.extract.request import BATCH_SIZES, ExtractOptions, Request, create_features, wants_text
from abaw.extract.runner import Runner
from abaw.extract.selection import Companions, select_part
from abaw.extract.text_runner import TextRunner
from abaw.media.decoders import PROCESSOR
from abaw.store import FeatureStore
from abaw.store.claims import claimed
from abaw.store.location import room_for


@dataclass(frozen=True)
class Stage:
    """An open extraction: its networks are loaded and its features are registered in the store."""

    options: ExtractOptions
    dataset: Dataset
    store: FeatureStore
    features: tuple[Feature, ...]
    notes: tuple[str, ...] = ()  # sentences about how features will be made
    transcripts: Transcripts = field(default_factory=Transcripts)

    @classmethod
    def open(
        cls,
        options: ExtractOptions,
        failed: dict[str, str] | None = None,
        on_gpu: bool | None = None,
        here: bool = False,
        claims: ExitStack | None = None,
    ) -> "Stage":
        """Load networks, find videos, register features.

        Args:
            failed: receives, by feature, why backbones were left out; the options of the stage do not have them. Without
                it, the first such error is raised.
            on_gpu: whether the features will be computed on a GPU; None to decide by the device of this process.
            here: see `create_features`.
            claims: receives the claim on the features, before anything is registered; without it, nothing is claimed.

        Raises:
            AbawError: no data, unknown backbones, missing weights, a feature that exists with another fingerprint, a full disk.
        """
        whole = options.open_dataset()
        for faces in {video.faces for video in whole.videos if isinstance(video, FollowedVideo)}:
            faces.load()
        transcripts = find_transcripts(whole.root, options.transcripts) if wants_text(options) else None
        dataset, crops = select_part(whole, options.part), Alignments.of(whole)
        left_out: dict[str, str] = {}
        features = create_features(options, None if failed is None else left_out, on_gpu, here)
        features = [
            replace(feature, alignment=crops.alignment if feature.spec.modality == "vision" else GIVEN)
            for feature in with_decoder(features, options, here)
        ]
        notes = [crops.note()] if any(feature.spec.modality == "vision" for feature in features) else []
        notes += [describe_transcripts(whole, transcripts)] if transcripts is not None else []
        notes += [note_spectrograms(whole)] if any(feature.spec.modality == "audio" for feature in features) else []
        with room_for(options.store):
            store = FeatureStore.create(options.store)
            if claims is not None:
                claims.enter_context(claimed(store, [feature.name for feature in features], options.part))
            registered, unsure = _register(store, crops, features, None if failed is None else left_out)
        notes += [*unsure, describe_precisions(registered), describe_compiled(registered) if options.compile else ""]
        options = replace(
            options, precision=single_precision(registered, options.precision), decoder=decoder_option(registered)
        )
        if left_out and failed is not None:
            failed |= left_out
            remaining = [text for text in options.backbones if Request.parse(text).feature not in left_out]
            options = replace(options, backbones=tuple(remaining))
        return cls(options, dataset, store, registered, tuple(filter(None, notes)), transcripts or Transcripts())

    def plan(self, summary: Summary, reporter: Reporter | None = None) -> ExtractionPlan:
        """Write the labels, and find out which features each video lacks."""
        summary.warnings += dict.fromkeys(note for feature in self.features for note in feature.backbone.notes)
        with room_for(self.options.store):
            write_labels(self.dataset, self.store, summary)
        # otherwise each part would repeat it, and all labels of a file with an error would count as stale
        if not (self.options.part or summary.label_errors):
            summary.warnings += stale_labels(self.dataset, self.store)
        return plan_extraction(self.dataset, self.store, self.features, summary, reporter or Silent(), self._companions)

    @cached_property
    def _companions(self) -> Companions:
        return Companions(self.dataset.people, find_sound_files(self.dataset.root), self.transcripts)

    def run(
        self,
        groups: Mapping[tuple[str, ...], Iterable[str]],
        summary: Summary,
        on_frames: OnFrames,
    ) -> None:
        """Extract the features that videos lack.

        Args:
            groups: names of videos, by the names of the features that they lack.
            summary: receives what was done and what failed.
            on_frames: called with the number of frames that were finished.
        """
        device = self.features[0].backbone.device
        batch_size = self.options.batch_size or BATCH_SIZES.get(device.type, BATCH_SIZES["cpu"])
        by_name = {video.name: video for video in self.dataset.videos}
        for pending, names in groups.items():
            videos = [by_name[name] for name in names]
            features = [feature for feature in self.features if feature.name in pending]
            for modality in ("vision", "audio", "text"):
                of_kind = [feature for feature in features if feature.spec.modality == modality]
                if of_kind and not summary.stopped:
                    summary.add(self._run_features(of_kind, videos, batch_size, summary, on_frames))
            if summary.stopped:
                break

    def _run_features(
        self,
        features: Sequence[Feature],
        videos: Sequence[Video],
        batch_size: int,
        summary: Summary,
        on_frames: OnFrames,
    ) -> Summary:
        """Extract features of one modality."""
        modality, follows = features[0].spec.modality, self.options.follows
        on_gpu = self.options.decoder == "gpu" and modality == "vision"
        decoder = decoder_on(features[0].backbone.device) if on_gpu else PROCESSOR
        names = [feature.name for feature in features]
        reading = Reading(self.dataset, self.store, names, summary, on_frames, self._companions, decoder)
        if modality == "audio":
            return AudioRunner(self.store, features, on_frames).run(reading.sound_sources(videos, follows))
        if modality == "text":
            return TextRunner(self.store, features, on_frames).run(reading.text_sources(videos, follows))
        sources = reading.followed_sources if follows else reading.frame_sources
        faces = FaceTables(self.dataset.root)
        return Runner(self.store, features, batch_size, on_frames, follows, faces).run(sources(videos))


def _register(
    store: FeatureStore, crops: Alignments, features: list[Feature], failed: dict[str, str] | None
) -> tuple[tuple[Feature, ...], list[str]]:
    """Register features in the store.

    Args:
        failed: receives features that the store holds with another fingerprint, with all their views. Without it, the
            first such error is raised.

    Returns:
        The features that were registered, and notes about them.
    """
    errors: dict[str, StoreError] = {}
    notes: list[str] = []
    for feature in features:
        try:
            if feature.spec.modality == "vision":
                notes.append(crops.check_old(store, feature.name))
            store.add_feature(feature.name, **feature.describe())
        except StoreError as error:
            if failed is None or isinstance(error, UnreachableError):
                raise
            errors.setdefault(without_view(feature.name), error)
    registered = tuple(feature for feature in features if without_view(feature.name) not in errors)
    if errors and not registered:
        raise next(iter(errors.values()))
    if failed is not None:
        failed |= {name: str(error) for name, error in errors.items()}
    return registered, notes
