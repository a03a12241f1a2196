"""What an extraction has to do: labels first, then the videos by the features that they still lack."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from abaw.datasets.dataset import Dataset, Labels, Video
from abaw.datasets.doctor import conflicts
from abaw.datasets.sound import find_sound_files, sound_digest, sound_file_of
from abaw.errors import AbawError, DataError, UsageError
from abaw.extract.audio_runner import AudioSource
from abaw.extract.reader import Source
from abaw.extract.sink import Feature, Summary
from abaw.store import FeatureStore


def write_labels(dataset: Dataset, store: FeatureStore, summary: Summary) -> None:
    """Put all labels that can be read into the store; what is wrong with the others goes into the summary."""
    summary.label_errors += [remark.sentence for remark in dataset.remarks if remark.is_error]
    by_video: dict[str, list[Labels]] = {}
    for label in dataset.labels:
        by_video.setdefault(label.video, []).append(label)
    for video, labels in by_video.items():
        summary.label_errors += conflicts(labels)
        for label in labels:
            try:
                store.write_labels(label.task, video, label.split, label.read())
            except AbawError as error:
                summary.label_errors.append(str(error))


def split_evenly(sizes: Mapping[str, int], n_parts: int) -> list[list[str]]:
    """Deal names into parts of about equal sums: the largest first, each to the part that has least. Deterministic."""
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    heap = [(0, number) for number in range(n_parts)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        total, number = heapq.heappop(heap)
        parts[number].append(name)
        heapq.heappush(heap, (total + sizes[name], number))
    return parts


def parse_part(text: str) -> tuple[int, int]:
    """Number and total of `I/N`.

    Raises:
        UsageError: it is something else.
    """
    number, _, total = text.partition("/")
    if not (
        number.isascii() and number.isdigit() and total.isascii() and total.isdigit() and 1 <= int(number) <= int(total)
    ):
        raise UsageError(f"A part is I/N, such as 2/8, with I from 1 to N; found {text!r}.")
    return int(number), int(total)


def own_part(dataset: Dataset, part: str) -> Dataset:
    """The dataset with only the videos of a part, see `ExtractOptions.part`; the labels stay with the first part."""
    if not part:
        return dataset
    number, total = parse_part(part)
    mine = set(split_evenly({video.name: len(video.crops().numbers) for video in dataset.videos}, total)[number - 1])
    labels = dataset.labels if number == 1 else ()
    return replace(dataset, videos=tuple(video for video in dataset.videos if video.name in mine), labels=labels)


def plan_extraction(
    dataset: Dataset, store: FeatureStore, features: Sequence[Feature], summary: Summary
) -> tuple[dict[tuple[str, ...], list[Video]], int]:
    """Videos by the features that they still lack, and the number of frames to read."""
    complete = {feature.name: store.videos(feature.name) for feature in features}
    kinds = {feature.name: feature.spec.modality for feature in features}
    sounds = find_sound_files(dataset.root)
    groups: dict[tuple[str, ...], list[Video]] = {}
    n_frames = 0
    for video in dataset.videos:
        crops = video.crops()
        digest = dataset.digest(video, crops)
        digests = {"vision": digest, "audio": sound_digest(digest, sound_file_of(video, sounds))}
        pending = tuple(
            name
            for name, videos in complete.items()
            if videos.get(video.name, {}).get("source") != digests[kinds[name]]
        )
        if pending:
            groups.setdefault(pending, []).append(video)
            n_frames += len(crops.numbers) * len({kinds[name] for name in pending})
        else:
            summary.skipped.append(video.name)
    return groups, n_frames


def frame_sources(dataset: Dataset, videos: Sequence[Video], summary: Summary) -> Iterator[Source]:
    """Videos to be read, listed as they are reached; what was assumed of a clock or failed goes into the summary."""
    for video in videos:
        crops = video.crops()
        try:
            clock = dataset.clock(video, crops)
        except DataError as error:  # a clip's file
            summary.failed[video.name] = str(error)
            continue
        if clock.warning:
            summary.warnings.append(f"{video.name}: {clock.warning}")
        yield Source(video, crops, clock, dataset.digest(video, crops))


def sound_sources(dataset: Dataset, videos: Sequence[Video], summary: Summary) -> Iterator[AudioSource]:
    """Videos whose sound is to be read; see `frame_sources`."""
    sounds = find_sound_files(dataset.root)
    for source in frame_sources(dataset, videos, summary):
        sound = sound_file_of(source.video, sounds)
        digest, n_crops = sound_digest(source.digest, sound), len(source.crops.numbers)
        yield AudioSource(source.video, sound, source.clock, digest, n_crops)
