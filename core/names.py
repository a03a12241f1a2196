"""Names of features and videos: which ones are safe, and which command makes a feature of a given name."""

import re
import unicodedata
from collections.abc import Sequence

from abaw.core.errors import DataError, StoreError, did_you_mean

SIDES = ("_left", "_right")  # of two people in one video; the video file has the base name
MAX_VALUES = 1_000_000  # per frame; anything larger is a mistake
MAX_FRAMES = 10_000_000  # per video, 92 hours at 30 frames a second; anything larger is a mistake
# of a video of which a table has few rows: 4.6 hours at 30 frames a second; more take a row for each 1,000 frames
UNLISTED_FRAMES, FRAMES_A_ROW = 500_000, 1000
MAX_NAME_BYTES = 255  # limit of most file systems
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control characters, surrogates, line and paragraph separators
JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
WILDCARDS = frozenset("*?[")
# these reverse the order in which text is shown
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


# these are not shown at all; joiners (U+200C, U+200D) are not among them, since names in some scripts need them
HIDDEN = frozenset("\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff")


def has_unsafe_characters(name: str) -> bool:
    """True if a name has characters that control a terminal or make it look like another name."""
    return any(c in TURNING or c in HIDDEN or unicodedata.category(c) in UNSEEN for c in name)


def is_junk(name: str) -> bool:
    """True for files and folders that other programs leave behind (`.DS_Store`, `._1.jpg`, `__MACOSX`); never data."""
    return name.startswith(".") or name.lower() in JUNK


def composed(name: str) -> str:
    """The name in Unicode's NFC, in which a letter with accents is one character; macOS writes several."""
    return unicodedata.normalize("NFC", name)


def check_name(name: str, kind: str) -> str:
    """Return `name` if it can be a path component of the store.

    Raises:
        StoreError: it cannot.
    """
    is_bad = any(c in "/\\" for c in name) or has_unsafe_characters(name) or name != name.strip() or name == "zarr.json"
    # Zarr reserves names that begin with two underscores
    if not name or name.startswith((".", "__")) or is_bad or len(name.encode()) > MAX_NAME_BYTES:
        raise StoreError(
            f"{name[:60]!r} cannot be the name of a {kind}: a name must not be empty or longer than {MAX_NAME_BYTES} bytes, "
            "start with '.' or '__', begin or end with a space, or contain a slash, control characters or hidden ones. "
            "Rename it."
        )
    return name


def check_last_frame(last: int, n_rows: int, location: str) -> None:
    """Check the largest frame number of a video in a table, since the frames before it take memory and disk space.

    Args:
        n_rows: that the table has of the video.
        location: of the number, which begins the message.

    Raises:
        DataError: so few rows cannot name such a frame.
    """
    most = max(UNLISTED_FRAMES, FRAMES_A_ROW * n_rows)
    if last > most:
        rows = "1 row" if n_rows == 1 else f"{n_rows:,} rows"
        raise DataError(
            f"{location} has frame {last:,}, and {rows} in all; with so few, the last frame can be {most:,}. Correct the "
            "number of the frame."
        )


def same_video(video: str, videos: Sequence[str]) -> str:
    """The first video whose name differs in zeros, signs or capitals alone; empty without such."""
    return next((one for one in videos if _plain(one) == _plain(video)), "")


def near_video(video: str, videos: Sequence[str]) -> str:
    """A question with the video that is meant, and a space after it: `same_video`, or one with a slip in its letters
    alone, since other numbers are other videos. Empty without such."""
    if same := same_video(video, videos):
        return f"Did you mean {same}? "
    numbers = _plain(video)[0]
    return did_you_mean(video, [one for one in videos if _plain(one)[0] == numbers])


def _plain(video: str) -> tuple[list[str], str]:
    """The numbers in a name, and its letters."""
    return [number.lstrip("0") for number in re.findall("[0-9]+", video)], re.sub("[^a-z]+", "", video.casefold())


def is_pattern(name: str) -> bool:
    """True for a name that stands for others, such as `va-*`, as `fnmatch` reads it."""
    return not WILDCARDS.isdisjoint(name)


def how_to_make(feature: str) -> str:
    """The command that would make a feature called `vit-mean` or `mae-cls@mask0.75.1`."""
    backbone, _, view = feature.partition("@")
    if backbone.startswith("timm-"):  # names of features have no slashes
        backbone = f"timm/{backbone.removeprefix('timm-')}"
    command = f"abaw extract --backbone {backbone}"
    if view.startswith("mask"):
        view, _, number = view.rpartition(".")
        return f"{command} --view {view} --views {int(number) + 1 if number.isdigit() else 1}"
    return f"{command} --view {view}" if view else command


def name_of_view(feature: str, view: str) -> str:
    """The name of a feature's view in a store, such as `vit-mean@hflip`; that of the feature if `view` is empty."""
    return f"{feature}@{view}" if view else feature


def without_view(name: str) -> str:
    """The name of the feature that a view is of; see `name_of_view`."""
    return name.partition("@")[0]
