"""Notes: small texts in a store next to its data, such as which process is writing it."""

from zarr.abc.store import Store

from abaw.store.zarr_keys import delete_key, names_in, read_keys, write_keys

FOLDER = ".notes"


class Notes:
    """The notes of a store, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> dict[str, str]:
        """All notes by name."""
        names = names_in(self._store, FOLDER)
        contents = read_keys(self._store, [f"{FOLDER}/{name}" for name in names])
        notes = zip(names, contents, strict=True)
        return {name: content.decode(errors="replace") for name, content in notes if content is not None}

    def write(self, name: str, text: str) -> None:
        """Write or replace a note."""
        write_keys(self._store, FOLDER, {name: text.encode()})

    def drop(self, name: str) -> None:
        """Delete a note, if it exists."""
        delete_key(self._store, f"{FOLDER}/{name}")
