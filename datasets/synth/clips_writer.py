"""Writing clips in several processes; a clip appears only once it is complete."""

import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from abaw.core.claim_files import check_claims, claimed
from abaw.core.errors import DataError, UsageError
from abaw.core.files import clear
from abaw.core.json_files import read_json
from abaw.core.names import is_junk
from abaw.core.output_stream import OutputStream
from abaw.core.progress import Reporter, Silent
from abaw.datasets.synth.cutouts import LABELS, Material, find_material
from abaw.datasets.synth.paths import SynthOptions
from abaw.datasets.synth.render import ClipMaker

RATE_HZ = 15  # 75 frames are the 5 s of a real clip
JPEG_QUALITY = 92
# Encoding costs more than drawing: `ultrafast` halves it against `veryfast`, for files of 160 kB instead of 50.
VIDEO_OPTIONS = {"preset": "ultrafast", "crf": "18", "threads": "1"}  # one thread: same frames, same bytes
PARTIAL = ".partial"  # folder in the output folder for incomplete files
RECORD = "synth.json"  # sources and options of the clips in the output folder
BEFORE = {"motion": "path", "squash": False, "stretch": False}  # of clips whose record does not say
NAME = re.compile(rf"synt-({'|'.join(label.lower() for label in LABELS)})-\d{{4,}}")


@dataclass(frozen=True)
class Made:
    """Result of `write_clips`: numbers of clips that it made, and that existed already."""

    n_made: int
    n_kept: int


def clip_name(number: int) -> str:
    """Name of clip `number`, from 0: `synt-positive-0001`; the classes take turns."""
    return f"synt-{list(LABELS)[number % len(LABELS)].lower()}-{number // len(LABELS) + 1:04d}"


def write_clips(
    faces: Path,
    backgrounds: Path | None,
    out: Path,
    n_clips: int,
    kind: str = "mp4",
    options: SynthOptions | None = None,
    workers: int | None = None,
    reporter: Reporter | None = None,
    only: str = "",
) -> Made:
    """Make those of the first `n_clips` clips that do not exist yet, and write `<Label>_labels.txt`.

    The label files list every complete clip, also of another `kind`; they are written also when
    the work is interrupted.

    Args:
        faces: folder of `<Label>/*.png`.
        backgrounds: folder of images; None draws gradients.
        out: folder to make; it may be empty, or hold clips made of the same images with the same options.
        n_clips: number of clips of all three classes together, or of the class `only`.
        kind: a name of `KINDS`: `<out>/<name>.mp4`, `<out>/<name>/00001.jpg` or `<out>/<name>.synt.img.<frames>.pt`.
        options: the rules and the seed.
        workers: processes; by default one per processor.
        reporter: receives progress.
        only: make clips of this class alone: the same clips as among those of all classes.

    Raises:
        UsageError: `kind` or `only` is unknown, or `out` holds something else.
        DataError: images are missing or cannot be read, or faces find no room.
    """
    options, reporter = options or SynthOptions(), reporter or Silent()
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of clip {kind!r}. Choose one of: {', '.join(KINDS)}.")
    numbers = _numbers(n_clips, only)
    material = find_material(faces, backgrounds, only)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file. Choose another folder for the clips.")
    out.mkdir(parents=True, exist_ok=True)
    with claimed(out / RECORD, also=[out]):
        return _write_clips(ClipWriter(material, options, out, kind), numbers, workers, reporter)


def _write_clips(writer: "ClipWriter", numbers: range, workers: int | None, reporter: Reporter) -> Made:
    material, options, out, kind = writer.arguments
    _begin_folder(out, material, options)
    todo = [number for number in numbers if not _target(out, number, kind, options).exists()]
    reporter.start("synth", len(todo), "clips")
    n_workers = min(workers or _count_processors(), len(todo))
    try:
        with closing(_make_all(writer, todo, n_workers)) as clips:
            for _ in clips:
                check_claims()
                reporter.advance()
    finally:
        check_claims()
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        _write_labels(out)
        reporter.finish()
    return Made(len(todo), len(numbers) - len(todo))


def _numbers(n_clips: int, only: str) -> range:
    """Numbers of the clips to make: the classes take turns, so that every third one is of the class `only`."""
    if not only:
        return range(n_clips)
    if only not in LABELS:
        raise UsageError(f"Unknown class {only!r}. Choose one of: {', '.join(LABELS)}.")
    return range(list(LABELS).index(only), n_clips * len(LABELS), len(LABELS))


def _begin_folder(out: Path, material: Material, options: SynthOptions) -> None:
    """Write a record of sources and options into the output folder, or check that its record is the same."""
    record, sources = out / RECORD, {**asdict(options), **material.digests()}
    if record.exists():
        recorded = _read_record(record)
        changed = [name for name in sources if recorded.get(name, BEFORE.get(name)) != sources[name]]
        if changed:
            raise UsageError(
                f"The clips in {out} were made with other {' and '.join(changed)}. "
                "Choose another folder, or repeat the command they were made with."
            )
    else:
        foreign = sorted(path.name for path in out.iterdir() if not is_junk(path.name))
        if foreign:
            raise UsageError(f"{out} holds something else, such as {foreign[0]}. Choose a new or empty folder.")
    clear(out / PARTIAL).mkdir()  # left by a process that was killed
    if record.exists():
        return
    try:
        _replace(out, RECORD, partial(Path.write_text, data=json.dumps(sources, indent=2) + "\n", encoding="utf-8"))
    except OSError:
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        raise


def _read_record(record: Path) -> dict[str, Any]:
    try:
        content = read_json(record)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UsageError(f"{record} is damaged. Choose another folder, or delete this one.")
    return content


def _replace(out: Path, name: str, write: Callable[[Path], object]) -> None:
    """Write a file or folder under a partial name, then rename it."""
    (out / PARTIAL).mkdir(exist_ok=True)
    write(out / PARTIAL / name)
    check_claims()
    (out / PARTIAL / name).replace(out / name)


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _target(out: Path, number: int, kind: str, options: SynthOptions) -> Path:
    return out / (clip_name(number) + KINDS[kind][0].format(n_frames=options.n_frames))


class ClipWriter:
    """Makes clips and writes them.

    Args:
        material: files to make them of.
        options: the rules.
        out: folder to write to, with a `PARTIAL` folder in it.
        kind: a name of `KINDS`.
    """

    def __init__(self, material: Material, options: SynthOptions, out: Path, kind: str) -> None:
        self.arguments = (material, options, out, kind)
        self._maker, self._options, self._out, self._kind = ClipMaker(material, options), options, out, kind

    def write(self, number: int) -> None:
        """Make and write one clip."""
        frames = self._maker.draw(number)
        name = _target(self._out, number, self._kind, self._options).name
        _replace(self._out, name, partial(KINDS[self._kind][1], frames=frames))


def _make_all(writer: ClipWriter, todo: list[int], n_workers: int) -> Generator[None]:
    """Make clips in this process or in others; yields after each."""
    if n_workers <= 1:
        for number in todo:
            writer.write(number)
            yield
        return
    # Forking a process that already runs threads (PyTorch, BLAS) can hang it; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _begin_worker, writer.arguments) as pool:
        futures = [pool.submit(_write_in_worker, number) for number in todo]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BrokenProcessPool as error:
            raise DataError(
                "A process that made clips was killed, perhaps because memory ran out. "
                "Finished clips are kept; run the same command again to continue."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # clips in work are finished, which takes a moment


_writers: list[ClipWriter] = []  # of a worker process; keeps decoded images between clips


def _begin_worker(material: Material, options: SynthOptions, out: Path, kind: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _writers.append(ClipWriter(material, options, out, kind))


def _write_in_worker(number: int) -> None:
    _writers[0].write(number)


def _write_labels(out: Path) -> None:
    """Rewrite the label files: every complete clip, in order."""
    clips: dict[str, set[str]] = {label: set() for label in LABELS}
    for path in out.iterdir():
        name = path.name.split(".")[0]
        if match := NAME.fullmatch(name):
            clips[match[1].capitalize()].add(name)
    try:
        for label, number in LABELS.items():
            names = sorted(clips[label], key=lambda name: (len(name), name))
            text = "".join(["Vid_name Label\n", *(f"{name} {number}\n" for name in names)])
            _replace(out, f"{label}_labels.txt", partial(Path.write_text, data=text, encoding="utf-8"))
    finally:
        shutil.rmtree(out / PARTIAL, ignore_errors=True)


def write_images(file: Path, frames: NDArray[np.uint8]) -> None:
    """Make a folder of `00001.jpg` and so on from (frames, height, width, 3) uint8 RGB."""
    file.mkdir()
    for number, frame in enumerate(frames, 1):
        content = simplejpeg.encode_jpeg(frame, quality=JPEG_QUALITY, colorspace="RGB")
        (file / f"{number:05d}.jpg").write_bytes(content)


def write_video(file: Path, frames: NDArray[np.uint8]) -> None:
    """Write an MP4 file (H.264, without sound) from (frames, height, width, 3) uint8 RGB of even size."""
    with OutputStream(file) as opened, av.open(opened, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE_HZ), options=VIDEO_OPTIONS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, RATE_HZ)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def write_tensor(file: Path, frames: NDArray[np.uint8]) -> None:
    """Write a plain uint8 tensor (frames, 3, height, width) from (frames, height, width, 3) uint8 RGB."""
    import torch

    with file.open("wb") as stream:  # given a name, torch would write it into the file
        torch.save(torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), stream)


Write = Callable[..., None]
KINDS: dict[str, tuple[str, Write]] = {
    "mp4": (".mp4", write_video),
    "frames": ("", write_images),
    "pt": (".synt.img.{n_frames}.pt", write_tensor),
}
