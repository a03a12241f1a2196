"""The feature store: one Zarr group with the features and labels of videos. The only room that imports zarr."""

from abaw.store.feature_store import FeatureStore

__all__ = ["FeatureStore"]
