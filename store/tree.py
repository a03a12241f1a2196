"""The groups and arrays of a Zarr store: names and attributes without opening each, small arrays written at once."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.errors import ContainsGroupError
from zarr.storage import LocalStore

from abaw.store.schema import group_attrs, report_damage, report_unreachable
from abaw.store.zarr_keys import (
    METADATA,
    NOTES,
    PACKS,
    FolderStore,
    delete_nodes,
    names_in,
    read_key,
    read_keys,
    write_keys,
)


class Tree:
    """The groups and arrays of a store, by path. Errors name the path that is damaged or cannot be reached.

    Args:
        root: the store's group.
        location: of the store, for error messages.
    """

    def __init__(self, root: zarr.Group, location: str) -> None:
        self.root, self.store, self._location = root, root.store, location

    def names(self, path: str) -> list[str]:
        """Sorted names of the members of a group."""
        with report_unreachable(f"{self._location}/{path}"):
            return [name for name in names_in(self.store, path) if name != PACKS]

    def attrs_in(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Attributes of the groups in a group, by name."""
        names = self.names(path)
        with report_unreachable(f"{self._location}/{path}"):
            attrs = attrs_at(self.store, [f"{path}/{name}" for name in names])
        yield from zip(names, attrs, strict=True)

    def attrs_of(self, path: str, name: str) -> dict[str, Any]:
        """Attributes of the group called `name` in a group; empty if there is none, or its metadata is damaged."""
        if "/" in name or name in ("", ".", ".."):
            return {}
        with report_unreachable(f"{self._location}/{path}"):
            return attrs_at(self.store, [f"{path}/{name}"])[0]

    def group(self, path: str) -> zarr.Group:
        """The group at a path."""
        with report_damage(f"{self._location}/{path}"):
            node = self.root[path]
            if not isinstance(node, zarr.Group):
                raise ValueError("it is an array instead of a group")
            return node

    def require(self, parent: str, name: str) -> zarr.Group:
        """The group called `name` in a group; created if missing."""
        with report_damage(f"{self._location}/{parent} or {name} in it"):
            try:
                return self.group(parent).require_group(name)
            except ContainsGroupError:  # another process has just created it
                return self.group(f"{parent}/{name}")

    def is_cut_off(self, path: str) -> bool:
        """True if writing at a path was started but not finished; False if it was finished or its metadata is damaged."""
        try:
            return "complete" not in self.root[path].attrs
        except KeyError:
            return True
        except Exception:  # zarr raises many types for damaged metadata
            return False

    def has_metadata(self, path: str) -> bool:
        """True if there is a group or array at a path, damaged or not."""
        if isinstance(self.store, LocalStore):
            return os.path.lexists(f"{self.store.root}/{path}/{METADATA}")
        with report_unreachable(f"{self._location}/{path}"):
            return read_key(self.store, f"{path}/{METADATA}") is not None

    def sweep(self, features: Sequence[str]) -> None:
        """Delete what killed processes left next to the metadata of groups; see `FolderStore.sweep`."""
        if isinstance(self.store, FolderStore):  # elsewhere a key is written whole or not at all
            groups = [
                *(f"features/{feature}" for feature in features),
                *(f"labels/{task}" for task in self.names("labels")),
            ]
            self.store.sweep([NOTES, "features", "labels", *groups])

    def drop(self, paths: Sequence[str]) -> None:
        """Delete the groups or arrays at some paths."""
        delete_nodes(self.store, paths)


def attrs_at(store: Store, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Attributes of the groups at some paths; empty if there is no group or its metadata is damaged."""
    contents = read_keys(store, [f"{path}/{METADATA}" for path in paths])
    return [group_attrs(content or b"") for content in contents]


def put_whole(store: Store, path: str, contents: Mapping[str, bytes], metadata: bytes) -> bool:
    """Write an array so that it exists whole or not at all; False if it exists already with the same metadata.

    Arrays of earlier versions have no names of dimensions; that is no reason to write them again.

    Args:
        contents: its chunks by key.
        metadata: its `zarr.json`, written last.
    """
    existing = read_key(store, f"{path}/{METADATA}")
    if existing is not None and _is_same(existing, metadata):
        return False
    has_remains = existing is not None or (isinstance(store, FolderStore) and store.has_remains(path))
    write_keys(store, path, contents, last={METADATA: metadata}, clear=has_remains)
    return True


def _is_same(one: bytes, other: bytes) -> bool:
    """True if the `zarr.json` of two arrays differ at most in the names of their dimensions."""
    if one == other:
        return True
    try:
        contents = [dict(json.loads(metadata)) for metadata in (one, other)]
    except (ValueError, TypeError, RecursionError):
        return False
    first, second = ({**content, "dimension_names": None} for content in contents)
    return first == second
