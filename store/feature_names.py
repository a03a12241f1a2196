"""Names of features in a store, checked before zarr is loaded, so that a typo is reported at once."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from abaw.core.errors import StoreError, UsageError, did_you_mean
from abaw.core.files import Place, is_url
from abaw.core.names import how_to_make, without_view
from abaw.store.schema import group_attrs, is_feature


def check_features(location: Place, features: Sequence[str]) -> None:
    """Raise an error if a store in a local folder is missing or lacks a feature. Stores at URLs are not checked here.

    Raises:
        StoreError: the store does not exist.
        UsageError: there is no such feature; the message lists the existing ones.
    """
    if is_url(location):
        return
    if not Path(location).exists():
        raise no_store(location)
    if not features:
        return
    existing = list_features(Path(location))
    for feature in features:
        if existing and feature not in existing:
            raise unknown_feature(feature, existing, str(location))


def list_features(store: Path) -> list[str]:
    """Names of the features in a store in a local folder, sorted; empty if it does not exist."""
    files = sorted(store.glob("features/*/zarr.json"))
    return [file.parent.name for file in files if is_feature(group_attrs(_read(file)))]


class MissingStoreError(StoreError):
    """There is no store, or only the beginning of one."""


def no_store(location: Place) -> MissingStoreError:
    """The error for a missing store."""
    command = f"abaw extract --backbone vit-mean --store {shlex.quote(str(location))}"
    return MissingStoreError(
        f"No feature store at {location}. Make one with `{command}`, or name another: --store PLACE, or `abaw store COMMAND PLACE`."
    )


def unknown_feature(feature: str, existing: Sequence[str], path: str) -> UsageError:
    """The error for a store that lacks a feature."""
    is_view = without_view(feature) in existing
    near = "" if is_view else did_you_mean(feature, existing)
    return UsageError(
        f"No feature {feature!r} in {path}; it has: {', '.join(existing) or 'no features yet'}. "
        + (near.rstrip() or f"Make it with `{how_to_make(feature)}`, or choose one with --feature.")
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # opening the store reports the cause
        return b""
