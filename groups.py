"""The groups and arrays of a Zarr store, without opening each: their names, their attributes, small ones written whole."""

import asyncio
import errno
import json
from collections.abc import Mapping, Sequence
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

READS_AT_ONCE = 64  # a request to object storage takes as long as a hundred local reads


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

    return [_group_attrs(metadata) for metadata in sync(read_all())]


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


def _group_attrs(metadata: bytes) -> dict[str, Any]:
    try:
        found = json.loads(metadata)
        is_group = found["zarr_format"] == 3 and found["node_type"] == "group"
        return dict(found["attributes"]) if is_group else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
