"""Import: features that people already have become a feature of the store, video by video.

The fingerprint of an imported feature is over its name and shape: nobody can tell which network made the values, so
the name stands for it. The content of the files is not part of it, as videos may be added and replaced later;
each video keeps a digest of its files. An export of `abaw` keeps the spec, the fingerprint and the marks that it had.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw import __version__
from abaw.backbones.spec import BackboneSpec
from abaw.core.claim_files import LostClaimError
from abaw.core.errors import AbawError, DataError, StoreError
from abaw.core.files import Place
from abaw.core.finite import finite_rows
from abaw.core.names import check_name
from abaw.core.progress import Reporter, Silent, Stop, Summary
from abaw.core.records import describe_other, fingerprint_of
from abaw.core.system_errors import in_words, system_error
from abaw.datasets.dataset import Dataset, time_files
from abaw.datasets.folders import find_video_files
from abaw.datasets.layouts import look_through
from abaw.datasets.named_people import people_notes
from abaw.exchange.axes import check_way, check_ways, shape_of
from abaw.exchange.frame_files import FrameFiles
from abaw.exchange.provenance import Origin
from abaw.exchange.source_clocks import Clocks
from abaw.exchange.source_rows import Rows, SourceVideo
from abaw.exchange.sources import SourceChoice, SourceVideos, find_videos
from abaw.extract.label_writer import write_labels
from abaw.store import FeatureStore
from abaw.store.claims import claimed
from abaw.store.old_records import IMPORTED, imported_options, old_fingerprint
from abaw.store.writer import FLOAT16_MAX


@dataclass(frozen=True)
class ImportOptions:
    """What to import.

    Attributes:
        source: folder, or HDF5 file, in one of the known layouts.
        store: the feature store; created if missing.
        feature: name that the feature gets.
        data: data folder, for video files (frame rates, numbers of frames) and labels.
        fps: frames a second for videos whose rate neither a video file nor the source gives.
        n_rows: which tensor to take of a clip that has several, by its number of rows; None takes the largest.
        columns: kinds or names of columns of tables of faces, see `abaw.media.face_columns`; the default kinds if empty.
        face: which face of such a table; empty takes the surest of each frame.
    """

    source: Path
    store: Place
    feature: str
    data: Path | None = None
    fps: float | None = None
    n_rows: int | None = None
    columns: tuple[str, ...] = ()
    face: str = ""


def import_features(options: ImportOptions, reporter: Reporter | None = None) -> Summary:
    """Write the features of a source into the store, and the labels of the data folder.

    Videos that are complete and whose files did not change are skipped. Errors of one video end up in the summary.

    Raises:
        AbawError: the source has no known layout, or the store has a different feature of this name.
    """
    reporter = reporter or Silent()
    check_name(options.feature, "feature")
    if options.data is not None and not options.data.is_dir():
        raise DataError(f"No data folder {options.data}. Correct --data, or leave it out.")
    dataset = look_through(options.data) if options.data is not None else None
    source = find_videos(options.source, SourceChoice(options.n_rows, options.columns, options.face))
    if not source.videos and not source.failed:
        raise DataError(f"{options.source} contains no videos. Choose another source.")
    clocks = Clocks({}, options.fps)
    if dataset is not None:
        clocks = Clocks(_video_files(dataset), options.fps, dataset.labels, dataset.people)
        time_files((file for name in source.videos if (file := clocks.file_of(name)) is not None), reporter)
    if source.origin is None:
        check_ways(source.videos.values(), clocks)
    summary = Summary(failed=dict(source.failed), warnings=list(source.notes))
    shape = first_shape(source, clocks, summary)
    if shape is None:
        return summary
    store = FeatureStore.create(options.store)
    with claimed(store, [options.feature], ""):
        register(store, options.feature, source, shape)
        if dataset is not None:
            write_labels(dataset, store, summary)
            summary.warnings += people_notes(dataset)
        pending, n_rows = plan(store, options.feature, source, clocks, summary)
        reporter.start("import", n_rows, "frames")
        work = Importer(store, options.feature, shape, clocks, summary, reporter, source.origin is not None)
        for video, made_from in pending:
            work.take(video, made_from)
            if summary.stopped:
                break
    reporter.finish()
    summary.warnings += clocks.warnings()
    return summary


def first_shape(source: SourceVideos, clocks: Clocks, summary: Summary) -> tuple[int, ...] | None:
    """Shape of a frame in the first video that can be opened; those before it have failed."""
    for name, video in source.videos.items():
        try:
            with video.open() as rows:
                if source.origin is None:
                    check_is_no_batch(video, rows)
                    check_way(name, rows, clocks)
                return rows.shape
        except Exception as error:
            summary.failed[name] = sentence(error)
    return None


def check_is_no_batch(video: SourceVideo, rows: Rows) -> None:
    """Refuse an array that looks like a batch of one video: one frame with a table of values. Frame files are exempt.

    Raises:
        DataError: it looks like a batch.
    """
    is_by_frame = rows.is_sampled or isinstance(video, FrameFiles)
    if rows.n_frames == 1 and len(rows.shape) == 2 and rows.shape[0] > 1 and not is_by_frame:
        raise DataError(
            f"its shape is {(1, *rows.shape)}: one frame of {rows.shape[0]} x {rows.shape[1]} values. If these are "
            f"{rows.shape[0]} frames, save them as {rows.shape}; if it is one frame, as <video>/00001.npy"
        )


def register(store: FeatureStore, feature: str, source: SourceVideos, shape: tuple[int, ...]) -> None:
    """Add the feature to the store, or check that it matches the existing one.

    Raises:
        StoreError: the store has a different feature of this name.
        DataError: the frames do not have the shape that the source declares.
    """
    origin = source.origin or new_origin(feature, shape, source.modality, source.columns)
    if tuple(origin.spec["shape"]) != shape:
        raise DataError(
            f"The source declares frames of shape {origin.spec['shape']}; they have shape {shape}. Export it again."
        )
    if feature in store.features():
        existing, difference = store.feature_attrs(feature), ""
        if existing["fingerprint"] != origin.fingerprint:
            records = store.feature_record(feature), origin.known_record()
            difference = describe_other(*records, existing["fingerprint"], origin.fingerprint)
        if difference:
            raise StoreError(
                f"Feature {feature!r} in {store.path} is a different one, of shape {existing['spec']['shape']} with weights "
                f"{existing['spec']['weights']!r}; these have shape {list(shape)} ({difference}). Choose another name with "
                f"--feature, or delete {store.path}/features/{feature} to replace it."
            )
    else:
        store.add_feature(feature, dict(origin.spec), origin.weights_sha256, origin.fingerprint, origin.record)


def new_origin(feature: str, shape: tuple[int, ...], modality: Any, columns: Sequence[str] = ()) -> Origin:
    """Spec and fingerprint of a feature of which only the name, the shape and perhaps the columns are known."""
    bare = BackboneSpec(feature, IMPORTED, "", modality, shape, "unknown", IMPORTED)
    spec = bare.with_options(**imported_options(feature, shape, modality), columns=",".join(columns) or None)
    record, attrs = spec.record(None), {**asdict(spec), "shape": list(shape), "view": "", "abaw": __version__}
    return Origin(attrs, None, fingerprint_of(record), record)


def is_imported(feature: str, attrs: Mapping[str, Any]) -> bool:
    """True if a feature was imported, judging by the `fingerprint` and `shape` that a run recorded."""
    if attrs.get("record", {}).get("network") == IMPORTED:
        return True
    fingerprint, shape = attrs["fingerprint"], tuple(attrs["shape"])
    origins = [new_origin(feature, shape, modality) for modality in ("vision", "audio")]
    old = (old_fingerprint({**origin.spec, "variant": ""}, None) for origin in origins)
    return fingerprint in [*(origin.fingerprint for origin in origins), *old]


def _video_files(dataset: Dataset) -> dict[str, Path]:
    """Video files by name, also of videos without crops."""
    files = {video.name: video.file for video in dataset.videos if video.file is not None}
    return {**find_video_files(dataset.root), **files}


def plan(
    store: FeatureStore, feature: str, source: SourceVideos, clocks: Clocks, summary: Summary
) -> tuple[list[tuple[SourceVideo, dict[str, str]]], int]:
    """The videos to import, each with attributes that identify its source, and the total number of their rows."""
    complete = store.videos(feature)
    pending, n_rows = [], 0
    for name, video in source.videos.items():
        if name in summary.failed:
            continue
        try:
            digest = hashlib.sha256(f"{video.digest()} {clocks.stamp(name)}".encode()).hexdigest()
            content = hashlib.sha256(f"{video.content()} {clocks.content(name)}".encode()).hexdigest()
            stored = complete.get(name, {})
            if stored.get("source") == digest and stored.get("content", content) == content:
                summary.skipped.append(name)
                continue
            with video.open() as rows:
                n_rows += len(rows.numbers)
            pending.append((video, {"source": digest, "content": content}))
        except Exception as error:  # an error in one video must not stop the others
            summary.failed[name] = sentence(error)
    return pending, n_rows


@dataclass(frozen=True)
class Importer:
    """Writes videos into the store one after another; errors go into the summary."""

    store: FeatureStore
    feature: str
    shape: tuple[int, ...]
    clocks: Clocks
    summary: Summary
    reporter: Reporter
    is_export: bool

    def take(self, video: SourceVideo, made_from: Mapping[str, str]) -> None:
        """Write one video completely or not at all; `made_from` are attributes that identify its source."""
        try:
            with video.open() as rows:
                if not self.is_export:
                    check_is_no_batch(video, rows)
                    check_way(video.name, rows, self.clocks)
                if rows.shape != self.shape:
                    hint = ", or save array.T" if shape_of(rows) and self.shape == (len(rows.numbers),) else ""
                    raise DataError(
                        f"its frames have the shape {list(rows.shape)}, feature {self.feature!r} has "
                        f"{list(self.shape)}. Import it as a separate feature{hint}"
                    )
                n_present = self._write(video.name, rows, made_from)
            self.summary.done.append(video.name)
            self.summary.n_frames += n_present
        except OSError as error:
            self._discard(video.name)
            self.summary.stopped = Stop.of_disk(error, f"{video.name} into {self.store.path}")
            if not self.summary.stopped:
                self.summary.failed[video.name] = sentence(error)
        except LostClaimError as error:
            self.summary.stopped = Stop.of_claim(error)
        except Exception as error:  # an error in one video must not stop the others
            self._discard(video.name)
            self.summary.failed[video.name] = sentence(error)

    def _write(self, name: str, rows: Rows, made_from: Mapping[str, str]) -> int:
        clock = self.clocks.clock(name, rows)
        attrs = {**clock.attrs, **made_from, **({} if self.is_export else {"precision": rows.dtype.name})}
        writer = self.store.writer(self.feature, name, clock.n_frames, rows.numbers - 1, attrs)
        lost: list[int] = []
        for numbers, values in in_writing_order(rows, self.is_export):
            finite = finite_rows(values)
            writer.write(numbers[finite] - 1, values[finite] if not finite.all() else values)
            for number in numbers[~finite].tolist():
                writer.skip(number - 1)
                lost.append(number)
            self.reporter.advance(len(numbers), name)
        if lost:
            if len(lost) == len(rows.numbers):
                raise DataError("all of its frames have values that are not finite")
            self.summary.warnings.append(
                f"{name}: {len(lost)} of {len(rows.numbers)} frames are left out because their values are not finite; the first is "
                f"frame {min(lost)}"
            )
        writer.finish(allow_empty=True)
        return len(rows.numbers) - len(lost)

    def _discard(self, name: str) -> None:
        """Delete an incomplete video; a complete one has its group's file, which is written last."""
        if name in self.store.incomplete(self.feature):
            self.store.drop(f"features/{self.feature}/{name}")


def in_writing_order(rows: Rows, is_export: bool) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
    """Blocks of frame numbers and values, float16 or float32.

    In an export a block with values that need float32 comes first. The whole video is then float32 from the start,
    and the import equals the exported feature bit by bit.
    """
    first = _first_wide_block(rows) if is_export and rows.dtype == np.float32 else None
    if first is not None:
        yield from (block for number, block in enumerate(_blocks(rows)) if number == first)
    yield from (block for number, block in enumerate(_blocks(rows)) if number != first)


def _first_wide_block(rows: Rows) -> int | None:
    wide = (number for number, (_, values) in enumerate(_blocks(rows)) if (np.abs(values) > FLOAT16_MAX).any())
    return next(wide, None)


def _blocks(rows: Rows) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
    start = 0
    for values in rows.blocks():
        numbers = rows.numbers[start : start + len(values)]
        start += len(values)
        if values.dtype != np.float16:
            with np.errstate(over="ignore"):  # values beyond float32 become infinite and are left out
                values = values.astype(np.float32)
        yield numbers, values


def sentence(error: Exception) -> str:
    """The error in one line."""
    if system_error(error) is not None:
        return in_words(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, AbawError) else f"it cannot be read ({text[:200]}). Copy it again."
