"""The groups of a Zarr store, without opening each: their names, and their attributes read many at a time."""

import asyncio
import json
from collections.abc import Sequence
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
        async with room:
            content = await store.get(f"{path}/zarr.json", default_buffer_prototype())
        return b"" if content is None else content.to_bytes()

    async def read_all() -> list[bytes]:
        room = asyncio.Semaphore(READS_AT_ONCE)
        return await asyncio.gather(*(read_one(path, room) for path in paths))

    return [_group_attrs(metadata) for metadata in sync(read_all())]


def _group_attrs(metadata: bytes) -> dict[str, Any]:
    try:
        found = json.loads(metadata)
        is_group = found["zarr_format"] == 3 and found["node_type"] == "group"
        return dict(found["attributes"]) if is_group else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
