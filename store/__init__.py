"""The feature store: one Zarr group with the features and labels of videos. The only room that imports zarr."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abaw.store.feature_store import FeatureStore

__all__ = ["FeatureStore"]


def __getattr__(name: str) -> Any:
    """Loads `FeatureStore`, and zarr with it, when it is first used: names are checked before."""
    if name != "FeatureStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from abaw.store.feature_store import FeatureStore

    return FeatureStore
