"""Names of features in a store, checked before zarr is loaded: a mistyped one is answered at once."""

from collections.abc import Sequence
from pathlib import Path

from abaw.core.errors import StoreError, UsageError
from abaw.core.files import Place, is_url
from abaw.core.names import how_to_make
from abaw.store.schema import group_attrs, is_feature


def check_features(place: Place, features: Sequence[str]) -> None:
    """Raise an error if a store in a local folder is missing or lacks a feature. Stores at URLs are not checked here.

    Raises:
        StoreError: nothing is there.
        UsageError: no such feature; the message lists those that are there.
    """
    if is_url(place):
        return
    if not Path(place).exists():
        raise no_store(place)
    if not features:
        return
    files = sorted(Path(place).glob("features/*/zarr.json"))
    known = [file.parent.name for file in files if is_feature(group_attrs(_read(file)))]
    for feature in features:
        if known and feature not in known:
            raise unknown_feature(feature, known, str(place))


def no_store(place: Place) -> StoreError:
    """The error where no store is."""
    return StoreError(
        f"No feature store at {place}. Make one with `abaw extract --store {place}`, or name another with --store."
    )


def unknown_feature(feature: str, known: Sequence[str], path: str) -> UsageError:
    """The error where a store lacks a feature."""
    return UsageError(
        f"No feature {feature!r} in {path}; it has: {', '.join(known) or 'none yet'}. "
        f"Make it with `{how_to_make(feature)}`, or choose one with --feature."
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the store itself says what is wrong
        return b""
