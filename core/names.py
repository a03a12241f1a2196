"""Names of features and videos: which are safe, and what the name of a feature tells."""

import unicodedata

from abaw.core.errors import StoreError

SIDES = ("_left", "_right")  # of two people in one video; the video file has the base name


MAX_VALUES = 1_000_000  # of one frame: likewise


MAX_NAME_BYTES = 255  # as file systems have it
MAX_FRAMES = 10_000_000  # of a video, 92 hours at 30 frames a second: a number beyond is a mistake
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories of control characters, halves of others, and ends of lines
JUNK = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # show text in another order


def misleads(name: str) -> bool:
    """True if a name has characters that control a terminal, or show it otherwise than it is."""
    return any(c in TURNING or unicodedata.category(c) in UNSEEN for c in name)


def is_junk(name: str) -> bool:
    """True for files and folders that other programs leave behind (`.DS_Store`, `._1.jpg`, `__MACOSX`): never data."""
    return name.startswith(".") or name.lower() in JUNK


def composed(name: str) -> str:
    """A name with each letter and its accents as one character (Unicode's NFC): macOS writes them apart, others together."""
    return unicodedata.normalize("NFC", name)


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as one path component of the store, else raise a StoreError."""
    is_bad = any(c in "/\\" for c in name) or misleads(name) or name != name.strip() or name == "zarr.json"
    # Zarr keeps names with two underscores in front for itself
    if not name or name.startswith((".", "__")) or is_bad or len(name.encode()) > MAX_NAME_BYTES:
        raise StoreError(
            f"{name[:60]!r} cannot be the name of a {what}: a name must not be empty or longer than {MAX_NAME_BYTES} bytes, "
            "start with '.' or '__', begin or end with a space, or contain a slash or control characters. Rename it."
        )
    return name


def how_to_make(feature: str) -> str:
    """The command that would make a feature of this name, `vit-mean` or `mae-cls@mask0.75.1`."""
    backbone, _, view = feature.partition("@")
    if backbone.startswith("timm-"):  # a slash cannot be in the name of a feature
        backbone = f"timm/{backbone.removeprefix('timm-')}"
    command = f"abaw extract --backbone {backbone}"
    if view.startswith("mask"):
        view, _, number = view.rpartition(".")
        return f"{command} --view {view} --views {int(number) + 1 if number.isdigit() else 1}"
    return f"{command} --view {view}" if view else command
