"""Arrays read without Zarr equal what Zarr reads, bit by bit; what only Zarr can read is left to it."""

import json
import shutil
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from abaw.store.plain_arrays import Block, PlainArray, find_plain_array
from abaw.tests.support.paths import DATA

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")


def make(folder: Path, values: np.ndarray, rows: tuple[int, ...] = (8, 4), **options: Any) -> zarr.Array:
    """An array of Zarr itself, with shards of `rows[0]` rows and chunks of `rows[1]`, or chunks of `rows[0]` alone."""
    grid = {"chunks": (rows[-1], *values.shape[1:])}
    if len(rows) == 2:
        grid["shards"] = (rows[0], *values.shape[1:])
    settings = {"compressors": [Crc32cCodec()], "filters": None, **grid, **options}
    array = zarr.create_array(LocalStore(folder), name="a", shape=values.shape, dtype=values.dtype, **settings)
    array[...] = values
    return array


def random_values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """All bits at random, so that floats are also NaN and infinite."""
    content = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    return content[..., 0] < 128 if dtype == "bool" else content.view(dtype)[..., 0]


def plain_at(folder: Path) -> PlainArray:
    plain = find_plain_array(LocalStore(folder), "a")
    assert plain is not None
    return plain


def blocks_of(plain: PlainArray) -> list[Block]:
    rows = plain.rows(0, plain.shape[0])
    return [rows.block(number) for number in range(rows.n_blocks)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "rows"), [((37, 3), (8, 4)), ((16, 2, 2), (8, 8)), ((21,), (5,)), ((3, 4), (8, 2))])
def test_values_equal_those_of_zarr(tmp_path: Path, dtype: str, shape: tuple[int, ...], rows: tuple[int, ...]) -> None:
    values = random_values(dtype, shape)
    array = make(tmp_path, values, rows, attributes={"x": 1})
    plain = plain_at(tmp_path)
    assert (plain.shape, plain.dtype, plain.attrs) == (array.shape, array.dtype, {"x": 1})
    assert plain.read().tobytes() == np.asarray(array[...]).tobytes() == values.tobytes()
    blocks = blocks_of(plain)
    assert [block.start for block in blocks] == list(range(0, shape[0], rows[0]))
    assert b"".join(block.values.tobytes() for block in blocks) == values.tobytes()
    for block in (block for block in blocks if block.stamp is not None):
        content = block.file.read_bytes()
        for offset, row in zip(block.offsets.tolist(), block.values, strict=True):
            assert content[offset : offset + plain.row_bytes] == row.tobytes()


def test_values_go_where_they_are_wanted(tmp_path: Path) -> None:
    values = random_values("float16", (37, 3))
    make(tmp_path, values)
    for into in (np.ones((37, 3), np.float16), np.ones((37, 3), np.float32), np.ones((3, 37), np.float16).T):
        assert plain_at(tmp_path).read(into) is into
        np.testing.assert_array_equal(into, values.astype(into.dtype))
    with pytest.raises(ValueError, match="shape"):
        plain_at(tmp_path).read(np.ones((36, 3)))


@pytest.mark.parametrize("fill_value", [0.0, float("nan"), -2.5])
def test_missing_chunks_and_files_have_the_fill_value(tmp_path: Path, fill_value: float) -> None:
    """Zarr leaves out chunks that have it everywhere."""
    values = random_values("float32", (37, 3))
    values[4:8], values[16:24] = fill_value, fill_value
    array = make(tmp_path, values, fill_value=fill_value)
    assert not (tmp_path / "a/c/2/0").exists()
    plain = plain_at(tmp_path)
    assert plain.read().tobytes() == np.asarray(array[...]).tobytes()
    offsets = np.concatenate([block.offsets for block in blocks_of(plain)])
    assert np.flatnonzero(offsets < 0).tolist() == [*range(4, 8), *range(16, 24)]
    assert [block.stamp is None for block in blocks_of(plain)] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_chunks_that_lie_in_another_order(tmp_path: Path) -> None:
    values = random_values("float16", (8, 3))
    make(tmp_path, values)
    file, n = tmp_path / "a/c/0/0", 4 * 3 * 2 + 4
    content = file.read_bytes()
    swapped = np.array([[n, n], [0, n]], dtype="<u8").tobytes()
    index = swapped + google_crc32c.value(swapped).to_bytes(4, "little")
    file.write_bytes(content[n : 2 * n] + content[:n] + index)
    assert plain_at(tmp_path).read().tobytes() == values.tobytes()
    assert np.asarray(zarr.open_array(LocalStore(tmp_path), path="a")[...]).tobytes() == values.tobytes()


@pytest.mark.parametrize("rows", [(8, 4), (8,)])
def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path, rows: tuple[int, ...]) -> None:
    make(tmp_path, random_values("float16", (11, 3)), rows)
    plain = plain_at(tmp_path)
    for file in tmp_path.glob("a/c/*/0"):
        content = file.read_bytes()
        for position in range(len(content)):
            if file.parent.name == "1" and position in range(4 * 6, 5 * 6 + 4) and len(rows) == 2:
                continue
            file.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
            with pytest.raises(ValueError, match=r"checksum|index"):
                plain.read()
        for n_bytes in range(len(content)):
            file.write_bytes(content[:n_bytes])
            with pytest.raises(ValueError, match=r"cut off|checksum|bytes instead"):
                plain.read()
        file.write_bytes(content)
    plain.read()


def other(folder: Path, change: Any) -> None:
    metadata = json.loads((folder / "a/zarr.json").read_text())
    change(metadata)
    (folder / "a/zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"compressors": [GzipCodec()]},
        {"compressors": []},
        {"serializer": BytesCodec(endian="big")},
        {"chunks": (4, 1)},
        {"chunks": (4, 1), "shards": (8, 3)},
        {"fill_value": float("inf")},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    ],
    ids=str,
)
def test_what_only_zarr_can_read(tmp_path: Path, options: dict[str, Any]) -> None:
    values = random_values("float16", (37, 3))
    array = make(tmp_path, values, (8,), **options)
    assert find_plain_array(LocalStore(tmp_path), "a") is None
    assert np.asarray(array[...]).tobytes() == values.tobytes()


def test_what_nothing_can_read(tmp_path: Path) -> None:
    values = random_values("float16", (37, 3))
    make(tmp_path, values)
    whole = (tmp_path / "a/zarr.json").read_bytes()
    changes = [
        lambda metadata: metadata.update(zarr_format=4),
        lambda metadata: metadata.update(new={"must_understand": True}),
        lambda metadata: metadata.update(storage_transformers=[{"name": "x"}]),
        lambda metadata: metadata.update(shape=[-1, 3]),
        lambda metadata: metadata.update(shape="long"),
        lambda metadata: metadata["codecs"][0]["configuration"].update(index_location="start"),
        lambda metadata: metadata["codecs"][0]["configuration"].update(chunk_shape=[3, 3]),
        lambda metadata: metadata["codecs"][0]["configuration"].update(chunk_shape=[0, 3]),
        lambda metadata: metadata.pop("codecs"),
        lambda metadata: metadata.update(attributes=3),
    ]
    for change in changes:
        other(tmp_path, change)
        assert find_plain_array(LocalStore(tmp_path), "a") is None
        (tmp_path / "a/zarr.json").write_bytes(whole)
    for content in (b"", b"[]", b"{", b"[" * 100_000):
        (tmp_path / "a/zarr.json").write_bytes(content)
        assert find_plain_array(LocalStore(tmp_path), "a") is None
    shutil.rmtree(tmp_path / "a")
    assert find_plain_array(LocalStore(tmp_path), "a") is None
    assert find_plain_array(MemoryStore(), "a") is None


def test_arrays_of_a_store_of_the_first_version() -> None:
    root = zarr.open_group(LocalStore(DATA / "store-v1/store.zarr"), mode="r")
    paths = [path for path, node in root.members(max_depth=None) if isinstance(node, zarr.Array)]
    assert len(paths) > 6
    for path in paths:
        plain, array = find_plain_array(root.store, path), root[path]
        assert plain is not None and isinstance(array, zarr.Array)
        assert plain.read().tobytes() == np.asarray(array[...]).tobytes()
        assert dict(plain.attrs) == dict(array.attrs)


@pytest.mark.parametrize("rows", [(8, 4), (4,)])
def test_some_rows_are_read_without_the_rest(tmp_path: Path, rows: tuple[int, ...]) -> None:
    values = random_values("float16", (37, 3))
    make(tmp_path, values, rows)
    plain = plain_at(tmp_path)
    for start, stop in [(0, 37), (0, 1), (3, 4), (5, 5), (2, 6), (4, 8), (7, 25), (36, 37), (9, 37)]:
        some = plain.rows(start, stop)
        assert some.shape == (stop - start, 3)
        assert some.read().tobytes() == values[start:stop].tobytes()
        into = np.zeros((stop - start, 3), np.float32)
        np.testing.assert_array_equal(some.read(into), values[start:stop].astype(np.float32))
        blocks = [some.block(number) for number in range(some.n_blocks)]
        assert b"".join(block.values.tobytes() for block in blocks) == values[start:stop].tobytes()
        for block in blocks:
            content = block.file.read_bytes()
            expected = values[start + block.start :]
            for offset, row in zip(block.offsets.tolist(), expected, strict=False):
                assert content[offset : offset + plain.row_bytes] == row.tobytes()


def test_damage_next_to_the_rows_that_are_wanted_is_found(tmp_path: Path) -> None:
    """The checksum is that of the whole chunk."""
    make(tmp_path, random_values("float16", (16, 3)), (8, 4))
    file = tmp_path / "a/c/0/0"
    content = bytearray(file.read_bytes())
    content[0] ^= 1  # of row 0
    file.write_bytes(bytes(content))
    plain = plain_at(tmp_path)
    plain.rows(4, 16).read()
    for start, stop in [(0, 1), (1, 3), (3, 4), (3, 9)]:
        with pytest.raises(ValueError, match="checksum"):
            plain.rows(start, stop).read()
