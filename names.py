"""Names of features and videos: which are safe, and what the name of a feature tells."""

from abaw.errors import StoreError

MAX_NAME_BYTES = 200  # file systems take 255, of which some are needed while a file is written


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as one path component of the store, else raise a StoreError."""
    is_bad = not name.isprintable() or any(c in "/\\" for c in name) or name != name.strip() or name == "zarr.json"
    if not name or name[0] in "._" or is_bad or len(name.encode()) > MAX_NAME_BYTES:
        raise StoreError(
            f"{name[:60]!r} cannot be the name of a {what}: a name must not be empty or longer than {MAX_NAME_BYTES} bytes, "
            "start with '.' or '_', or contain a slash or unprintable characters. Rename it."
        )
    return name


def how_to_make(feature: str) -> str:
    """The command that would make a feature of this name, `vit-mean` or `mae-cls@mask0.75.1`."""
    backbone, _, view = feature.partition("@")
    command = f"abaw extract --backbone {backbone}"
    if view.startswith("mask"):
        view, _, number = view.rpartition(".")
        return f"{command} --view {view} --views {int(number) + 1 if number.isdigit() else 1}"
    return f"{command} --view {view}" if view else command
