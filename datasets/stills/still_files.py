"""Tables and files of sets of stills, as other systems write them: other separators, cases, byte order marks."""

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import composed, is_junk
from abaw.media.images import SUFFIXES
from abaw.media.links import read_bytes
from abaw.media.text_files import bounded_lines, open_text

STILL_SUFFIXES = (*SUFFIXES, ".tif", ".tiff")
MOST_NUMBERS = 1_000  # in a .npy file; 68 landmarks have 136
MOST_NPY_BYTES = 65_536
DRIVE = re.compile(r"[A-Za-z]:")


def table_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with their line numbers, without blank ones; values are stripped.

    Raises:
        DataError: it cannot be read as text, or as a table.
    """
    with open_text(path) as stream:
        reader = csv.reader(bounded_lines(stream, path), delimiter=delimiter)
        try:
            for row in reader:
                values = [value.strip() for value in row]
                if any(values):
                    yield reader.line_num, values
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{path} line {reader.line_num + 1} cannot be read ({error}). Copy it again.") from error


def first_row(path: Path, delimiter: str = ",") -> list[str]:
    """The first row of a table, also of one that cannot be read further on; empty for an empty file."""
    try:
        return next(table_rows(path, delimiter), (0, []))[1]
    except DataError:
        try:
            with path.open("rb") as stream:
                text = stream.readline(MOST_NPY_BYTES).decode("utf-8-sig", errors="replace")
        except OSError:
            return []
        return [value.strip() for value in text.split(delimiter)]


def bad_row(path: Path, line: int, problem: str) -> DataError:
    """The error of a row of a table."""
    return DataError(f"{path} line {line}: {problem}. Correct the line.")


def number_in(path: Path, line: int, column: str, text: str, allowed: range | tuple[float, float]) -> float:
    """A number of a row; a DataError if it is none or not allowed.

    Args:
        allowed: whole numbers, or the lowest and the highest number.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    is_whole = isinstance(allowed, range)
    if (value in allowed) if is_whole else (allowed[0] <= value <= allowed[1]):
        return value
    wanted = f"{'a whole number' if is_whole else 'a number'} from {allowed[0]:g} to {allowed[-1]:g}"
    raise bad_row(path, line, f"{column} should be {wanted}, found {text[:30]!r}")


class ImageFiles:
    """The image files under a root. Each folder is listed once, when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, text: str, source: Path, line: int) -> str | None:
        """The path of an image relative to the root; None if it is missing. Separators and cases may be those of Windows.

        Raises:
            DataError: the path leads out of the root.
        """
        path = PurePosixPath(text.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or DRIVE.match(text) or "\0" in text or not path.name:
            raise bad_row(
                source, line, f"an image is named relative to {self._root} and inside of it, found {text[:60]!r}"
            )
        folder = "" if str(path.parent) == "." else str(path.parent)
        name = self.names(folder).get(_folded(path.name))
        return None if name is None else _joined(folder, name)

    def names(self, folder: str) -> dict[str, str]:
        """Names of the images in a folder, relative to the root, by their normalised names; empty without the folder."""
        if folder not in self._listed:
            try:
                names = os.listdir(self._root / folder)  # noqa: PTH208  names suffice
            except OSError:
                names = []
            images = [name for name in names if Path(name).suffix.lower() in STILL_SUFFIXES and not is_junk(name)]
            self._listed[folder] = {_folded(name): name for name in sorted(images, reverse=True)}
        return self._listed[folder]

    def by_number(self, folder: str) -> dict[int, str]:
        """Paths of the images in a folder whose names are numbers, by number."""
        stems = {Path(name).stem: name for name in self.names(folder).values()}
        return {int(stem): _joined(folder, name) for stem, name in stems.items() if stem.isascii() and stem.isdigit()}


def _folded(name: str) -> str:
    return composed(name).casefold()


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def folder_named(root: Path, *names: str) -> str:
    """The path of a folder under a root whose parts are written in any case; empty if there is none."""
    folder = root
    for name in names:
        inner = next((path for path in _folders(folder) if path.name.casefold() == name.casefold()), None)
        if inner is None:
            return ""
        folder = inner
    return folder.relative_to(root).as_posix()


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_junk(path.name))
    except OSError:
        return []


def folders_in(root: Path) -> list[Path]:
    """The folders under a root, in the order of their names."""
    return _folders(root)


def file_named(root: Path, *names: str) -> Path | None:
    """The file of one of these names under a root, in any case."""
    try:
        files = {path.name.casefold(): path for path in sorted(root.iterdir(), reverse=True) if path.is_file()}
    except OSError:
        return None
    return next((files[name.casefold()] for name in names if name.casefold() in files), None)


def read_numbers(path: Path) -> NDArray[np.float64]:
    """The numbers of a small .npy file, flat; texts of numbers are read as such.

    Raises:
        DataError: it is no such file.
    """
    try:
        if path.stat().st_size > MOST_NPY_BYTES:
            raise ValueError("it is too large")
        stream = io.BytesIO(read_bytes(path))
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.hasobject or int(np.prod(shape, dtype=np.float64)) > MOST_NUMBERS or dtype.itemsize > MOST_NPY_BYTES:
            raise ValueError(f"it holds {dtype} of shape {shape}")
        stream.seek(0)
        return np.asarray(np.load(stream, allow_pickle=False)).reshape(-1).astype(np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} holds no numbers of a label ({error}). Copy it again.") from error
