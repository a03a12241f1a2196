"""Changes of an HDF5 file that keep it one: values of other types and shapes, links, attributes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

OUTSIDE = "linked.h5"


def change_hdf5(file: Path, at: float, what: str, outside: Path) -> None:
    """Replace one of the groups and datasets of a file, or an attribute of it, by something else."""
    if not file.is_file() or file.is_symlink():
        return
    try:
        with h5py.File(file, "r+") as opened:
            names: list[str] = []
            opened.visit(names.append)
            name = names[min(int(at * len(names)), len(names) - 1)]
            parent, _, own = name.rpartition("/")
            CHANGES[what](opened[parent] if parent else opened, own, outside)
    except Exception:  # an earlier change made it unreadable
        file.write_bytes(file.read_bytes()[::-1])


def _put(value: Any, **options: Any) -> Any:
    def change(group: h5py.Group, name: str, _: Path) -> None:
        del group[name]
        group.create_dataset(name, **({"data": value} if value is not None else {}), **options)

    return change


def _link(make: Any) -> Any:
    def change(group: h5py.Group, name: str, outside: Path) -> None:
        del group[name]
        group[name] = make(outside)

    return change


def _attribute(value: Any) -> Any:
    def change(group: h5py.Group, name: str, _: Path) -> None:
        for holder in (group, group[name], group.file):
            for key in [*holder.attrs, "fps", "spec", "fingerprint"]:
                holder.attrs[key] = value

    return change


def _rename(new: str) -> Any:
    def change(group: h5py.Group, name: str, _: Path) -> None:
        group.move(name, new)

    return change


def _elsewhere(group: h5py.Group, name: str, outside: Path) -> None:
    del group[name]
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource(str(outside / OUTSIDE), "values", (4, 3))
    group.create_virtual_dataset(name, layout)


def _as_group(group: h5py.Group, name: str, _: Path) -> None:
    del group[name]
    group.create_group(name).create_group("inner")["values"] = [[1.0]]


def _drop(group: h5py.Group, name: str, _: Path) -> None:
    del group[name]


CHANGES: dict[str, Any] = {
    "drop": _drop,
    "group": _as_group,
    "virtual": _elsewhere,
    "text": _put("text"),
    "bytes": _put(np.array([b"a", b"b"])),
    "scalar": _put(1.0),
    "nothing": _put(h5py.Empty("f4")),
    "no rows": _put(np.zeros((0, 3), np.float32)),
    "no columns": _put(np.zeros((4, 0), np.float32)),
    "complex": _put(np.ones((4, 3), np.complex64)),
    "compound": _put(np.zeros(4, [("a", "f4"), ("b", "i4")])),
    "object": _put(np.array(["a", "b"], object), dtype=h5py.string_dtype()),
    "reference": _put(None, shape=(4,), dtype=h5py.ref_dtype),
    "many axes": _put(np.zeros((4, 1, 1, 1, 1, 1, 3), np.float16)),
    "not finite": _put(np.full((4, 3), np.nan, np.float64)),
    "large values": _put(np.full((4, 3), 1e300)),
    "negative": _put(-np.ones((4, 3), np.int64)),
    "unsigned": _put(np.full((4,), 2**64 - 1, np.uint64)),
    "huge": _put(None, shape=(10**12, 3), chunks=(10**3, 3), dtype="f4"),
    "long": _put(None, shape=(10**9,), chunks=(10**6,), dtype="?"),
    "wide": _put(None, shape=(4, 10**12), chunks=(1, 10**3), dtype="f4"),
    "filled": _put(None, shape=(9_000_000, 4), chunks=(10**6, 4), dtype="f2", compression="gzip"),
    "external": _link(lambda outside: h5py.ExternalLink(str(outside / OUTSIDE), "/values")),
    "soft": _link(lambda _: h5py.SoftLink("/")),
    "nowhere": _link(lambda _: h5py.SoftLink("/nothing")),
    "attribute text": _attribute("x"),
    "attribute nan": _attribute(float("nan")),
    "attribute array": _attribute(np.zeros(5)),
    "attribute empty": _attribute(h5py.Empty("f4")),
    "attribute large": _attribute(1e300),
    "up": _rename(".."),
    "absolute": _rename("/x"),
    "backslash": _rename("a\\b"),
    "unprintable": _rename("a\u202e\n💥"),
    "long name": _rename("x" * 5000),
}
