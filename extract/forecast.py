"""What an extraction would do, without doing it: loads no torch and no networks, decodes and writes nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np

from abaw.backbones.published import weights_of
from abaw.backbones.spec import BackboneSpec
from abaw.core.clock import CLOCK, DECODED
from abaw.core.errors import DataError
from abaw.core.files import Place, is_url
from abaw.core.progress import Reporter, Silent
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import FrameSource, Video
from abaw.datasets.sound_files import find_sound_files
from abaw.datasets.transcripts import Transcripts, find_transcripts
from abaw.extract.faces.followed_videos import FollowedFrames
from abaw.extract.people_in_store import PeopleInStore
from abaw.extract.request import ExtractOptions, Request, requested_features, wants_text
from abaw.extract.selection import Companions, has_its_clock, select_part
from abaw.media.stamps import is_timed
from abaw.store import FeatureStore


@dataclass(frozen=True)
class FeatureForecast:
    """What is missing of one feature.

    Attributes:
        feature, backbone: names.
        weights: where they are, or how to get them; empty for a backbone without weights.
        has_weights: False if the weights have to be downloaded or put there first.
        to_get: what `abaw weights get` takes to download them; empty if they are there or cannot be downloaded.
        n_complete: videos that are complete in the store.
        n_videos, n_frames: videos that lack the feature, and their frames.
        n_bytes: about what those take in the store; values compress by little, so this is nearly an upper bound.
    """

    feature: str
    backbone: str
    weights: str
    has_weights: bool
    to_get: str
    n_complete: int
    n_videos: int
    n_frames: int
    n_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What an extraction would do.

    Attributes:
        features: each feature, views included.
        n_videos, n_frames: videos with at least one incomplete feature, and their frames.
        n_estimated: videos among them that lack features of sound or text and whose number of frames is only known after decoding
            their files once; their crops were counted instead.
        unreadable: by video, why it cannot be extracted.
        labels: number of label files by task.
        free_bytes: room on the disk of the store; None if unknown.
    """

    features: tuple[FeatureForecast, ...]
    n_videos: int
    n_frames: int
    n_estimated: int
    unreadable: Mapping[str, str]
    labels: Mapping[str, int]
    free_bytes: int | None

    @property
    def n_bytes(self) -> int:
        """About what all missing features take in the store."""
        return sum(one.n_bytes for one in self.features)


@dataclass(frozen=True)
class _Missing:
    """A video, the features that it lacks, and its frames with a picture and on its clock, the second perhaps estimated."""

    features: tuple[str, ...]
    n_pictures: int
    n_rows: int
    is_estimate: bool


def forecast_extraction(options: ExtractOptions, reporter: Reporter | None = None) -> Forecast:
    """Find out which features each video lacks; see `Forecast`.

    Raises:
        AbawError: no data, unknown backbones, or a store that cannot be opened.
    """
    requests = requested_features(options)
    dataset = select_part(options.open_dataset(), options.part)
    stored = _stored_videos(options.store, list(requests))
    people, reporter = PeopleInStore(stored), reporter or Silent()
    transcripts = find_transcripts(dataset.root, options.transcripts) if wants_text(options) else Transcripts()
    companions = Companions(dataset.people, find_sound_files(dataset.root), transcripts)
    missing: dict[str, _Missing] = {}
    unreadable: dict[str, str] = {}
    reporter.start("plan", len(dataset.videos), "videos")
    for video in dataset.videos:
        try:
            missing[video.name] = _look_up(dataset, video, requests, stored, people, companions)
        except (OSError, DataError) as error:
            unreadable[video.name] = str(error)
        reporter.advance(1)
    reporter.finish()
    unseen = {name for name, request in requests.items() if request.spec.modality != "vision"}
    incomplete = [one for one in missing.values() if one.features]
    return Forecast(
        features=tuple(_forecast(name, request.spec, request.weights, missing) for name, request in requests.items()),
        n_videos=len(incomplete),
        n_frames=sum(one.n_pictures or one.n_rows for one in incomplete),
        n_estimated=sum(one.is_estimate and not unseen.isdisjoint(one.features) for one in incomplete),
        unreadable=unreadable,
        labels=Counter(labels.task for labels in dataset.labels),
        free_bytes=_free_bytes(options.store),
    )


def _stored_videos(location: Place, features: Sequence[str]) -> dict[str, Mapping[str, dict[str, Any]]]:
    """Attributes of the complete videos of each feature; nothing where there is no store yet."""
    store = FeatureStore.open_if_there(location)
    if store is None:
        return {feature: {} for feature in features}
    return {feature: store.videos(feature) for feature in features}


def _look_up(
    dataset: Dataset,
    video: Video,
    requests: Mapping[str, Request],
    stored: Mapping[str, Mapping[str, Mapping[str, Any]]],
    people: PeopleInStore,
    companions: Companions,
) -> _Missing:
    """The features that a video lacks. Frames that were broken when the others were stored are not read again here."""
    frames, modalities = dataset.open(video), {request.spec.modality for request in requests.values()}
    if isinstance(frames, FollowedFrames):
        sources = companions.sources_of(video, frames, modalities)
        lacking = [
            name for name, one in requests.items() if people.of(name, video.name, sources[one.spec.modality]) is None
        ]
        return _Missing(tuple(lacking), frames.size(), frames.size(), is_estimate=True)
    attrs = {feature: videos.get(video.name, {}) for feature, videos in stored.items()}
    pending = tuple(requests)
    if any(attrs.values()):
        sources = companions.sources_of(video, frames, modalities)
        pending = tuple(
            feature
            for feature, request in requests.items()
            if not sources[request.spec.modality].matches(attrs[feature])
            or (_is_timed(video) and not has_its_clock(frames, attrs[feature]))
        )
    n_rows, is_estimate = _count_rows(video, frames, attrs.values()) if pending else (0, False)
    return _Missing(pending, frames.size() if pending else 0, n_rows, is_estimate)


def _count_rows(video: Video, frames: FrameSource, stored: Iterable[Mapping[str, Any]]) -> tuple[int, bool]:
    """Frames on the clock of a video, and whether they are only estimated, from its crops."""
    known = [attrs["n_frames"] for attrs in stored if attrs.get(CLOCK) == DECODED]
    if known:
        return known[0], False
    if _is_timed(video):
        return frames.clock().n_frames, False
    return frames.size(), True


def _is_timed(video: Video) -> bool:
    """True if its clock is known without decoding its file."""
    with suppress(DataError):
        return video.file is None or is_timed(video.file)
    return False


def _forecast(
    feature: str, spec: BackboneSpec, weights: Path | None, missing: Mapping[str, _Missing]
) -> FeatureForecast:
    lacking = [one for one in missing.values() if feature in one.features]
    n_frames = sum(one.n_pictures if spec.modality == "vision" else one.n_rows for one in lacking)
    where, has_weights, to_get = _describe_weights(spec, weights)
    return FeatureForecast(
        feature=feature,
        backbone=spec.name,
        weights=where,
        has_weights=has_weights,
        to_get=to_get,
        n_complete=len(missing) - len(lacking),
        n_videos=len(lacking),
        n_frames=n_frames,
        n_bytes=n_frames * prod(spec.shape) * np.dtype(spec.dtype).itemsize,
    )


def _describe_weights(spec: BackboneSpec, file: Path | None) -> tuple[str, bool, str]:
    """Where the weights are, or how to get them; whether they are there; and what to download."""
    if file is not None:
        return (str(file), True, "") if file.exists() else (f"{file} is missing", False, "")
    if spec.weights == "none":
        return "", True, ""
    published = weights_of(spec, (spec.name,))
    return published.line, bool(published.where), published.family if published.state == "get" else ""


def _free_bytes(location: Place) -> int | None:
    """Room on the disk of a store that may not exist yet."""
    if is_url(location):
        return None
    folder = Path(location).absolute()
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    with suppress(OSError):
        return disk_usage(existing).free if existing else None
    return None
