"""Export: a feature of the store for other programs, as HDF5, NumPy arrays, Parquet, Lance or WebDataset."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import h5py
import numpy as np

from abaw.core.claim_files import claimed, drop_dead_claim
from abaw.core.clock import marks_of
from abaw.core.errors import StoreError, UsageError, first_line
from abaw.core.files import writing
from abaw.core.names import MAX_NAME_BYTES
from abaw.core.output_stream import OutputStream
from abaw.core.progress import Reporter, Silent
from abaw.exchange.arrow_sinks import LanceSink, ParquetSink, arrow_schema
from abaw.exchange.provenance import FEATURE_FILE, Origin
from abaw.exchange.source_rows import PRESENT, VALUES
from abaw.exchange.web_dataset import WebDatasetSink
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoFeature
from abaw.store.in_turn import VideosInTurn

if TYPE_CHECKING:
    import pyarrow

Format = Literal["h5", "npy", "parquet", "lance", "webdataset"]
PACKAGES: dict[str, tuple[str, ...]] = {"parquet": ("pyarrow",), "lance": ("pyarrow", "lance")}  # by format


class ExportSink(Protocol):
    """Takes the videos of an export."""

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video, and which of `abaw.core.clock.MARKS` it has."""


class FinishedSink(ExportSink, Protocol):
    """An `ExportSink` that writes the rest at the end."""

    def finish(self) -> None:
        """No more videos come."""


class Hdf5Sink:
    """One file with a group per video: `values`, `present`, and `fps` and marks that are true as attributes."""

    def __init__(self, file: h5py.File, stream: OutputStream) -> None:
        self._file, self._stream = file, stream

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video."""
        group = self._file.create_group(video)
        group.create_dataset(VALUES, data=stored.values)
        group.create_dataset(PRESENT, data=stored.present)
        group.attrs.update({"fps": stored.fps, **dict.fromkeys(marks, True)})
        self._stream.check()


class FolderSink:
    """A folder with `<video>.npy` and `<video>.present.npy`; frame rates and marked videos for `feature.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.fps: dict[str, float] = {}
        self.marked: dict[str, list[str]] = {}

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video."""
        if len(f"{video}.{PRESENT}.npy".encode()) > MAX_NAME_BYTES:
            raise UsageError(
                f"The name of video {video[:30]!r}... is too long for a file of its own. Export with --format h5."
            )
        for file, values in ((f"{video}.npy", stored.values), (f"{video}.{PRESENT}.npy", stored.present)):
            if (self._folder / file).exists():
                raise UsageError(f"Two videos would be written into {file}. Export with --format h5.")
            with OutputStream(self._folder / file) as stream:
                np.save(stream, values)
        self.fps[video] = stored.fps
        for mark in marks:
            self.marked.setdefault(mark, []).append(video)


def export_feature(
    store: FeatureStore, feature: str, out: Path, form: Format = "h5", reporter: Reporter | None = None
) -> tuple[int, int]:
    """Write every complete video of a feature to a new file or folder; other videos are left out.

    Args:
        out: file or folder to make; it must not exist.
        form: "h5" (one file, a group per video), "npy" (a folder, two arrays per video), "parquet" and "lance" (a row per
            frame, see `abaw.exchange.arrow_sinks`) or "webdataset" (a folder, see `abaw.exchange.web_dataset`).

    Returns:
        Numbers of videos and of frames.

    Raises:
        UsageError: `out` exists, the store has no such feature, or the format needs a package that is missing.
        StoreError: the feature has no video, or one is damaged; then nothing is left at `out`.
    """
    reporter = reporter or Silent()
    _check_packages(form)
    attrs, videos = store.feature_attrs(feature), store.videos(feature)
    if not videos:
        raise StoreError(f"Feature {feature!r} in {store.path} has no complete video. Extract or import it first.")
    origin = Origin(attrs["spec"], attrs["weights_sha256"], attrs["fingerprint"], attrs.get("record"))
    n_frames = sum(int(video["n_frames"]) for video in videos.values())
    with _new_output(out) as partial:
        reporter.start("export", n_frames, "frames")
        with _sink(form, partial, feature, origin, videos) as sink:
            turn = VideosInTurn(store, feature, videos)
            for video, attrs_of_video in videos.items():
                stored = turn.read(video)
                sink.put(video, stored, marks_of(attrs_of_video))
                reporter.advance(len(stored.values), video)
        reporter.finish()
    return len(videos), n_frames


@contextmanager
def _new_output(out: Path) -> Iterator[Path]:
    """Yields the temporary path of `out`, see `writing`."""
    _check_free(out)
    if not out.resolve().parent.is_dir():
        raise UsageError(f"No folder {out.resolve().parent} to write {out.name} into. Make it first.")
    with claimed(out):
        _check_free(out)
        with writing(out) as partial:
            yield partial
            _check_free(out)


def _check_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        drop_dead_claim(out)
        raise UsageError(f"{out} already exists and is not overwritten. Choose another path with --out, or delete it.")


def _check_packages(form: Format) -> None:
    os.environ.setdefault("LANCE_LOG", "error")  # it warns of every dataset that it makes
    try:
        for package in PACKAGES.get(form, ()):
            import_module(package)
    except ImportError as error:
        raise UsageError(
            f"--format {form} needs a package that is missing ({first_line(error)}): pip install '.[{form}]' in abaw's folder."
        ) from error


def _sink(
    form: Format, out: Path, feature: str, origin: Origin, videos: Mapping[str, Mapping[str, Any]]
) -> AbstractContextManager[ExportSink]:
    """What writes a format; it is finished when the context ends without an error.

    Args:
        videos: attributes by name.
    """
    if form == "h5":
        return _hdf5_sink(out, feature, origin)
    if form == "npy":
        return _folder_sink(out, feature, origin)
    if form == "webdataset":
        return _finished(WebDatasetSink(out, {"feature": feature, **origin.as_texts()}))
    if form == "lance":
        return _finished(LanceSink(out, arrow_schema(feature, origin, videos)))
    return _parquet_sink(out, arrow_schema(feature, origin, videos))


@contextmanager
def _finished(sink: FinishedSink) -> Iterator[ExportSink]:
    yield sink
    sink.finish()


@contextmanager
def _parquet_sink(file: Path, schema: "pyarrow.Schema") -> Iterator[ExportSink]:
    with OutputStream(file) as stream, closing(ParquetSink(stream, schema)) as sink, _finished(sink):
        yield sink


@contextmanager
def _hdf5_sink(file: Path, feature: str, origin: Origin) -> Iterator[ExportSink]:
    with OutputStream(file) as stream, h5py.File(stream, "w") as opened:
        opened.attrs.update({"feature": feature, **origin.as_texts()})
        yield Hdf5Sink(opened, stream)


@contextmanager
def _folder_sink(folder: Path, feature: str, origin: Origin) -> Iterator[ExportSink]:
    folder.mkdir()
    sink = FolderSink(folder)
    yield sink
    content = {"feature": feature, **origin.as_texts(), "fps": sink.fps, **sink.marked}
    (folder / FEATURE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
