"""Access to the keys of a Zarr store, below its groups and arrays. The only module that uses private parts of zarr.

Zarr offers no public way to read and write many keys at once from synchronous code, and its `sync` and buffers have
moved before: setup.cfg keeps zarr below the next minor version.
"""

import asyncio
import errno
import json
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from abaw.core.claim_files import check_claims
from abaw.core.errors import StoreError
from abaw.core.read_ahead import map_ahead
from abaw.store.local_keys import AT_ONCE, N_THREADS, delete_folder, list_folder, read_file, read_files

READS_AT_ONCE = 64  # a request to object storage takes as long as a hundred local reads
METADATA = "zarr.json"
PARTIAL = ".partial"  # ends the names of temporary files
PACKS = ".packs"  # group of what is packed in a group, see `abaw.store.packs`
NOTES = ".notes"  # folder of texts that are no data, see `abaw.store.notes`


class FolderStore(LocalStore):
    """A Zarr store in a folder that refuses to write or delete through links below its root. The root may be a link."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a key."""
        self._check_parents(key)
        try:
            await super().set(key, value)
        except FileNotFoundError:  # the temporary file was taken for one of a dead process, see `sweep`
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a key unless it exists."""
        self._check_parents(key)
        try:
            await super().set_if_not_exists(key, value)
        except FileNotFoundError:  # as above
            await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """Delete a key; if it is a link, the link."""
        self._check_parents(key)
        if (self.root / key).is_symlink():
            (self.root / key).unlink()
        else:
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete every key under a prefix."""
        self._check_parents(f"{prefix}/")
        with suppress(FileNotFoundError):  # another process deletes the same
            await super().delete_dir(prefix)

    def delete_node(self, path: str) -> None:
        """Delete the group or array at a path, its metadata first."""
        self._check_writable()
        self._check_parents(f"{path}/")
        delete_folder(self.root / path, METADATA)

    def sweep(self, groups: Sequence[str]) -> None:
        """Delete temporary files that killed processes left next to the metadata of some groups, and empty notes.

        A temporary file that another process is just writing is deleted, too; it is then written again.
        """
        for path in [self.root, *(self.root / group for group in groups)]:
            for stray in path.glob(f"zarr.*{PARTIAL}"):
                stray.unlink(missing_ok=True)
        for note in (self.root / NOTES).glob("*"):
            if note.is_dir() and not note.is_symlink() and not (note / METADATA).exists():
                shutil.rmtree(note, ignore_errors=True)

    def sweep_below(self, path: str) -> None:
        """Delete temporary files that killed processes left anywhere below a path, where nobody else writes."""
        for stray in (self.root / path).rglob(f"*{PARTIAL}"):
            stray.unlink(missing_ok=True)

    def has_remains(self, path: str) -> bool:
        """True if there is a folder at a path, such as a killed process leaves without metadata."""
        return (self.root / path).is_dir()

    def _check_parents(self, key: str) -> None:
        folder = self.root
        for name in Path(key).parts if key.endswith("/") else Path(key).parts[:-1]:
            folder /= name
            if folder.is_symlink():
                raise StoreError(
                    f"{folder} is a link, and a store is never changed through a link. Replace it with its target."
                )


def names_in(store: Store, path: str) -> list[str]:
    """Sorted names of the groups, arrays and files in a group, without opening them."""

    async def collect() -> list[str]:
        return [name async for name in store.list_dir(path)]

    names = list_folder(f"{store.root}/{path}") if isinstance(store, LocalStore) else sync(collect())
    names = [name for name in names if not name.startswith(METADATA)]
    return sorted(name for name in names if not (name.startswith("zarr.") and name.endswith(PARTIAL)))


def read_key(store: Store, key: str) -> bytes | None:
    """The content of a key; None if it does not exist."""
    return read_file(f"{store.root}/{key}") if isinstance(store, LocalStore) else sync(_read(store, key))


def read_keys(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """The contents of some keys, read at the same time; None for a key that does not exist, or is a link to itself."""
    if isinstance(store, LocalStore):
        return read_files([f"{store.root}/{key}" for key in keys])

    async def read_one(key: str, limit: asyncio.Semaphore) -> bytes | None:
        try:
            async with limit:
                return await _read(store, key)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return None

    async def read_all() -> list[bytes | None]:
        limit = asyncio.Semaphore(READS_AT_ONCE)
        return await asyncio.gather(*(read_one(key, limit) for key in keys))

    return sync(read_all())


def read_ranges(store: Store, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Parts of keys, read at the same time: from one byte to before another. None for a key that does not exist."""

    async def read_all() -> list[bytes | None]:
        wanted = [(key, RangeByteRequest(start, stop)) for key, start, stop in ranges]
        contents = await store.get_partial_values(default_buffer_prototype(), wanted)
        return [None if content is None else content.to_bytes() for content in contents]

    return sync(read_all())


def read_end(store: Store, key: str, n_bytes: int) -> bytes | None:
    """The last bytes of a key; None if it does not exist."""
    content = sync(store.get(key, default_buffer_prototype(), SuffixByteRequest(n_bytes)))
    return None if content is None else content.to_bytes()


async def _read(store: Store, key: str) -> bytes | None:
    # without a range, s3fs asks for the size of an object first
    everything = OffsetByteRequest(0) if isinstance(store, FsspecStore) else None
    content = await store.get(key, default_buffer_prototype(), everything)
    return None if content is None else content.to_bytes()


def write_keys(
    store: Store,
    path: str,
    contents: Mapping[str, bytes | memoryview],
    last: Mapping[str, bytes] | None = None,
    clear: bool = False,
) -> None:
    """Write keys below a path, each atomically.

    Args:
        contents: by key, written in any order.
        last: written after all others.
        clear: first delete everything at the path, starting with its metadata so that it is never read half deleted.

    Raises:
        LostClaimError: another process took over what this one is writing.
    """
    if not path.startswith(NOTES):  # claims are among these
        check_claims()

    async def write_one(key: str, content: bytes | memoryview) -> None:
        await store.set(f"{path}/{key}", default_buffer_prototype().buffer.from_bytes(content))

    async def write_all() -> None:
        if clear:
            await _delete(store, path)
        await asyncio.gather(*(write_one(key, content) for key, content in contents.items()))
        for key, content in (last or {}).items():
            await write_one(key, content)

    sync(write_all())


def make_root(store: FolderStore) -> None:
    """Make an empty group of a store, unless there is one: opening would replace one that another process makes meanwhile."""
    content = encode_metadata({"attributes": {}, "zarr_format": 3, "node_type": "group"})
    sync(store.set_if_not_exists(METADATA, default_buffer_prototype().buffer.from_bytes(content)))


def delete_key(store: Store, key: str) -> None:
    """Delete a key, if it exists."""
    sync(store.delete(key))


def delete_nodes(store: Store, paths: Sequence[str]) -> None:
    """Delete the groups or arrays at some paths, the metadata of each first: none is read half deleted."""

    if isinstance(store, FolderStore):
        parts = [paths[start : start + AT_ONCE] for start in range(0, len(paths), AT_ONCE)]
        deleted = map_ahead(lambda part: list(map(store.delete_node, part)), parts, N_THREADS if len(parts) > 1 else 1)
        deque(deleted, maxlen=0)
        return

    async def delete_one(path: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            await _delete(store, path)

    async def delete_all() -> None:
        limit = asyncio.Semaphore(READS_AT_ONCE)
        await asyncio.gather(*(delete_one(path, limit) for path in paths))

    sync(delete_all())


async def _delete(store: Store, path: str) -> None:
    await store.delete(f"{path}/{METADATA}")
    await store.delete_dir(path)


@lru_cache
def array_template(
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    fill_value: float | None,
    dimension_names: tuple[str, ...],
) -> Mapping[str, Any]:
    """The content of `zarr.json` that Zarr writes for an uncompressed array with checksums."""
    store = MemoryStore()
    zarr.create_array(
        store,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=fill_value,
        dimension_names=dimension_names,
    )
    content = read_key(store, METADATA)
    assert content is not None
    return json.loads(content)


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a `zarr.json`, as Zarr formats them."""
    return json.dumps(dict(metadata), indent=2).encode()
