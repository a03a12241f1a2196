"""Notes: small texts in a store next to its data, such as which process is writing it.

Each is the attribute `text` of a group of its own, so that a note is part of the Zarr hierarchy for other readers.
Earlier versions of abaw wrote files; these are still read and dropped.
"""

from zarr.abc.store import Store

from abaw.store.schema import group_attrs
from abaw.store.writer import group_metadata
from abaw.store.zarr_keys import METADATA, NOTES, delete_key, delete_nodes, names_in, read_key, read_keys, write_keys


class Notes:
    """The notes of a store, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> dict[str, str]:
        """All notes by name."""
        names = names_in(self._store, NOTES)
        groups = read_keys(self._store, [f"{NOTES}/{name}/{METADATA}" for name in names])
        files = read_keys(self._store, [f"{NOTES}/{name}" for name in names])
        notes = {}
        for name, group, file in zip(names, groups, files, strict=True):
            if group is not None:
                notes[name] = str(group_attrs(group).get("text", ""))
            elif file is not None:
                notes[name] = file.decode(errors="replace")
        return notes

    def has(self, name: str) -> bool:
        """True if there is a note of this name."""
        return read_key(self._store, f"{NOTES}/{name}/{METADATA}") is not None

    def write(self, name: str, text: str) -> None:
        """Write or replace a note."""
        if read_key(self._store, f"{NOTES}/{METADATA}") is None:
            write_keys(self._store, NOTES, {METADATA: group_metadata({})})
        write_keys(self._store, NOTES, {f"{name}/{METADATA}": group_metadata({"text": text})})

    def drop(self, name: str) -> None:
        """Delete a note, if it exists."""
        if read_key(self._store, f"{NOTES}/{name}/{METADATA}") is None:
            delete_key(self._store, f"{NOTES}/{name}")
        else:
            delete_nodes(self._store, [f"{NOTES}/{name}"])
