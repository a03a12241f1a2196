"""Opening a dataset in any of the known layouts.

Layouts are plug-ins of the group `abaw.layouts`, abaw's own among them, see `abaw.core.plugins`.
"""

import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from abaw.core.errors import AbawError, DataError, first_line
from abaw.core.plugins import Plugin, load_named
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import find_folders
from abaw.datasets.frames import Video
from abaw.datasets.named_people import with_people
from abaw.datasets.stills.still_layouts import find_still_set

GROUP = "abaw.layouts"


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset is stored in a folder.

    Attributes:
        open: returns the dataset under a root, or None if nothing there has this layout. Takes the root, and the frame
            rate of videos without a file or None. No image is opened.
        description: content of a folder in this layout, such as "Aff-Wild2, with crops in cropped_aligned/"; empty for
            a layout with only labels.
    """

    open: Callable[[Path, float | None], Dataset | None]
    description: str = ""


def open_dataset(root: Path, fps: float | None = None) -> Dataset:
    """Find the videos and labels of every layout under a root; no image is opened.

    Args:
        root: the folder that holds `cropped_aligned/` and the challenge folders, or the folders of another layout.
        fps: frame rate for videos without a file.

    Raises:
        DataError: no such folder, no known layout, no videos, or two videos with the same name.
    """
    dataset = look_through(root, fps)
    if not dataset.videos:
        raise DataError(_nothing_in(root, [remark.sentence for remark in dataset.remarks if remark.is_error]))
    duplicates = [name for name, n in Counter(video.name for video in dataset.videos).items() if n > 1]
    if duplicates:
        paths = " and ".join(str(video.path) for video in dataset.videos if video.name == duplicates[0])
        raise DataError(
            f"{root} has two videos called {duplicates[0]!r}: {paths}. Rename one, or keep the two layouts apart."
        )
    return dataset


def look_through(root: Path, fps: float | None = None) -> Dataset:
    """Like `open_dataset`, but accepts a folder without videos or with two videos of one name.

    Raises:
        DataError: no such folder, or a layout of another distribution failed.
    """
    if root.is_file():
        raise DataError(f"{root} is a file, not a data folder. Choose the folder that holds the videos with --data.")
    if not root.is_dir():
        raise DataError(f"No data folder {root}. Choose yours with --data, or make a demo one with `abaw demo`.")
    opened = {name: _open(plugin, root, fps) for name, plugin in load_named(GROUP, Layout).items()}
    found = {name: dataset for name, dataset in opened.items() if dataset is not None}
    datasets = list(found.values())
    videos: list[Video] = []
    for dataset in datasets:
        # already read as crops, so not read again as clips
        files = {video.file for video in videos if video.file is not None}
        videos += [video for video in dataset.videos if video.file not in files]
    remarks = tuple(chain.from_iterable(dataset.remarks for dataset in datasets))
    labels = tuple(chain.from_iterable(dataset.labels for dataset in datasets))
    companions = tuple(chain.from_iterable(dataset.companions for dataset in datasets))
    layouts = tuple(name for name, dataset in found.items() if dataset.videos or dataset.labels)
    return with_people(Dataset(root, tuple(videos), labels, fps, remarks, companions, layouts))


def list_layouts() -> dict[str, str]:
    """Every layout by name: distribution and version that it comes from."""
    return {name: plugin.source for name, plugin in load_named(GROUP, Layout).items()}


def _open(plugin: Plugin[Layout], root: Path, fps: float | None) -> Dataset | None:
    try:
        dataset = plugin.value.open(root, fps)
        if dataset is not None and not isinstance(dataset, Dataset):
            raise TypeError(f"it gave a {type(dataset).__name__}, not a Dataset")
        return dataset
    except Exception as error:
        if plugin.built_in or isinstance(error, AbawError):
            raise
        raise DataError(
            f"Layout {plugin.name} of {plugin.source} failed on {root} ({type(error).__name__}: {first_line(error)}). "
            "Update or uninstall that distribution."
        ) from error


def _nothing_in(root: Path, errors: list[str]) -> str:
    """A sentence about a root without videos."""
    with suppress(DataError):
        if (stills := find_still_set(root)) is not None:
            return f"{root} has no videos, but still images ({stills.kind}). Use it with `abaw finetune --images NAME={shlex.quote(str(root))}`."
    names = sorted(path.name for path in root.iterdir())[:5]
    folders = find_folders(root)
    empty = [*folders.crops, *folders.raw]
    if errors:
        content = errors[0].removesuffix(".")
    elif empty:
        content = f"{empty[0]} has no video folders"
    else:
        content = f"{root} has no videos or images; " + (f"it holds {', '.join(names)}" if names else "it is empty")
    descriptions = [plugin.value.description for plugin in load_named(GROUP, Layout).values()]
    return f"{content}. Known layouts are {'; '.join(filter(None, descriptions))}."
