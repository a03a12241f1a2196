"""The groups and arrays of a Zarr store, without opening each: their names, their attributes, small ones written whole."""

import asyncio
import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ContainsGroupError

from abaw.store.schema import damage_told, group_attrs, trouble_told

READS_AT_ONCE = 64  # a request to object storage takes as long as a hundred local reads


class Tree:
    """What lies in a store, by path; what is damaged or cannot be reached is told in a sentence that names the place.

    Args:
        root: the store's group.
        place: where the store is, for the sentences.
    """

    def __init__(self, root: zarr.Group, place: str) -> None:
        self.root, self.store, self._place = root, root.store, place

    def names(self, path: str) -> list[str]:
        """Names of what is in a group, sorted."""
        with trouble_told(f"{self._place}/{path}"):
            return names_in(self.store, path)

    def attrs_in(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Attributes of the groups in a group, by name."""
        names = self.names(path)
        with trouble_told(f"{self._place}/{path}"):
            attrs = attrs_at(self.store, [f"{path}/{name}" for name in names])
        yield from zip(names, attrs, strict=True)

    def group(self, path: str) -> zarr.Group:
        """The group at a path."""
        with damage_told(f"{self._place}/{path}"):
            node = self.root[path]
            if not isinstance(node, zarr.Group):
                raise ValueError("an array stands where a group should be")
            return node

    def require(self, parent: str, name: str) -> zarr.Group:
        """The group of a name in a group; made if it is not there."""
        with damage_told(f"{self._place}/{parent} or {name} in it"):
            try:
                return self.group(parent).require_group(name)
            except ContainsGroupError:  # another one has made it meanwhile
                return self.group(f"{parent}/{name}")

    def is_cut_off(self, path: str) -> bool:
        """True if writing at a path was begun and not finished; False if it was, or if what is there is damaged."""
        try:
            return "complete" not in self.root[path].attrs
        except KeyError:
            return True
        except Exception:  # zarr raises many types for damaged metadata
            return False

    def drop(self, path: str) -> None:
        """Delete what is at a path."""

        async def delete() -> None:
            # first what makes it count: nothing half deleted is ever read
            await self.store.delete(f"{path}/zarr.json")
            await self.store.delete_dir(path)

        sync(delete())


def names_in(store: Store, path: str) -> list[str]:
    """Names of the groups and arrays in a group, sorted; nothing in them is opened."""

    async def collect() -> list[str]:
        return sorted([name async for name in store.list_dir(path) if not name.startswith("zarr.json")])

    return sync(collect())


def attrs_at(store: Store, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Attributes of the groups at some paths; empty where there is none, or its metadata is damaged."""

    async def read_one(path: str, room: asyncio.Semaphore) -> bytes:
        try:
            async with room:
                content = await store.get(f"{path}/zarr.json", default_buffer_prototype())
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link that leads to itself
                raise
            content = None
        return b"" if content is None else content.to_bytes()

    async def read_all() -> list[bytes]:
        room = asyncio.Semaphore(READS_AT_ONCE)
        return await asyncio.gather(*(read_one(path, room) for path in paths))

    return [group_attrs(metadata) for metadata in sync(read_all())]


def put_whole(store: Store, path: str, contents: Mapping[str, bytes], metadata: bytes) -> bool:
    """Write an array so that it is there whole or not at all; False if this very metadata stands there already.

    Args:
        contents: its chunks by key.
        metadata: its `zarr.json`, written last.
    """
    make = default_buffer_prototype().buffer.from_bytes

    async def put() -> bool:
        found = await store.get(f"{path}/zarr.json", default_buffer_prototype())
        if found is not None and found.to_bytes() == metadata:
            return False
        if found is not None:
            await store.delete(f"{path}/zarr.json")  # first what makes it count
            await store.delete_dir(path)
        for key, content in contents.items():
            await store.set(f"{path}/{key}", make(content))
        await store.set(f"{path}/zarr.json", make(metadata))
        return True

    return sync(put())
