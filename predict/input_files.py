"""What `abaw predict` is given: a run or none, video files and images, options. Loads no torch."""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import UsageError
from abaw.core.names import composed, is_junk
from abaw.datasets.video_files import SUFFIXES as VIDEO_SUFFIXES
from abaw.media.images import SUFFIXES as IMAGE_SUFFIXES
from abaw.train.run_files import CONFIG, find_folder

SHIPPED_RUN = "fer"  # stands for the network that comes with the package
GIVE = "Give video files, images, or folders of them."


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, and how.

    Attributes:
        files: video files, images, and folders of them.
        out: folder that gets a folder for each file.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of features whose backbone or weights are not the default ones.
        faces: how many people of each file to keep, the largest and longest seen; 0 keeps all.
        overlay: make a video or image with the predictions drawn into it.
        raw: leave out the run's post-processing; without a run, the smoothing over time.
        untrained: random weights, like those of the run's features.
        device: "auto" takes a GPU if there is one.
        identity: what people in videos are told apart by, see `abaw.extract.faces.face_identity.create_identity`.
    """

    files: tuple[Path, ...] = ()
    out: Path = Path("predictions")
    backbones: tuple[str, ...] = ()
    faces: int = 0
    overlay: bool = True
    raw: bool = False
    untrained: bool = False
    device: str = "auto"
    identity: str = ""


def check_options(without_run: bool, options: PredictOptions) -> None:
    """Raise a UsageError for an option that only trained runs have."""
    for name, value in (("--backbone", options.backbones), ("--untrained", options.untrained)):
        if value and without_run:
            raise UsageError(f"{name} is for runs, and no run was named. Leave it out, or name a run before the files.")


def split_arguments(runs: Path, arguments: Sequence[str]) -> tuple[str | None, list[Path]]:
    """The run, or None, and the files and folders in `[RUN] FILE...`.

    The first argument names a run if a run has that name, or if no file or folder has it.

    Raises:
        UsageError: it names both or neither, or there is only a run.
    """
    first, paths = arguments[0], [Path(argument) for argument in arguments[1:]]
    is_file, is_run = Path(first).exists(), (runs / first / CONFIG).is_file() and not first.startswith(".")
    if (Path(first) / CONFIG).is_file():  # the folder of a run
        is_file, is_run = False, True
    if is_file and (not is_run or not paths):
        return None, [Path(first), *paths]
    if is_file:
        raise UsageError(
            f"{first!r} is a run in {runs} and a file or folder, too. Write {runs / first} for the run, or ./{first} for the other."
        )
    if not is_run and first != SHIPPED_RUN:
        if Path(first).suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES):
            raise UsageError(f"No file {first}. {GIVE}")
        _raise_unknown_run(runs, first, paths)
    if not paths:
        raise UsageError(f"{first} is a run, and no file follows it. {GIVE}")
    return (first if is_run else None), paths


def split_stream(arguments: Sequence[str]) -> tuple[str | None, str]:
    """The run, or None, and the source in `[RUN] SOURCE`.

    Raises:
        UsageError: there are more arguments.
    """
    *before, source = arguments
    if len(before) > 1:
        raise UsageError(
            f"A stream is of one video, found {' and '.join(before[1:])} before {source}. Leave out all but one."
        )
    return (before[0] if before and before[0] != SHIPPED_RUN else None), source


def _raise_unknown_run(runs: Path, name: str, paths: Sequence[Path]) -> None:
    try:
        find_folder(runs, name, CONFIG)
    except UsageError as error:
        rest = shlex.join(map(str, paths)) or "VIDEO"
        raise UsageError(f"{error} Without a run: `abaw predict {rest}`.") from error


def list_inputs(paths: Sequence[Path]) -> list[Path]:
    """Video files and images among files and in folders, which are not searched further down.

    Raises:
        UsageError: a path does not exist, a file is neither, or the predictions of two files would have the same name.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_input(file))
            if not inside:
                raise UsageError(f"{path} has no video files and no images. Name another folder, or the files.")
            files += inside
        elif not path.exists():
            raise UsageError(f"No file {path}. {GIVE}")
        elif not _is_input(path):
            kinds = ", ".join((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
            raise UsageError(f"{path} does not end in one of {kinds}. Convert or rename it.")
        else:
            files.append(path)
    files = list({file.resolve(): file for file in files}.values())
    duplicates = [name for name, n in Counter(name_of(file) for file in files).items() if n > 1]
    if duplicates:
        first, second, *_ = [file for file in files if name_of(file) == duplicates[0]]
        raise UsageError(
            f"The predictions of {first} and {second} would both be called {duplicates[0]!r}. Rename one of them."
        )
    return files


def make_folder(folder: Path) -> None:
    """Make the folder of the predictions; a UsageError if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to ({error.strerror}). Choose another folder with --out."
        ) from error


def is_image(file: Path) -> bool:
    """True for an image, by its suffix."""
    return file.suffix.lower() in IMAGE_SUFFIXES


def name_of(file: Path) -> str:
    """The name of a file's predictions: `talk` for talk.mp4, `talk_jpg` for talk.jpg."""
    return composed(f"{file.stem}_{file.suffix[1:].lower()}" if is_image(file) else file.stem)


def _is_input(file: Path) -> bool:
    is_known = is_image(file) or file.suffix.lower() in VIDEO_SUFFIXES
    return is_known and not is_junk(file.name) and not file.is_dir()
