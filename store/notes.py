"""Notes: small texts in a store beside its data, such as who is filling it at the moment."""

import errno

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

FOLDER = ".notes"


class Notes:
    """The notes of a store, each under a name of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> dict[str, str]:
        """All notes by name."""

        async def collect() -> dict[str, str]:
            found = {}
            async for name in self._store.list_dir(FOLDER):
                try:
                    content = await self._store.get(f"{FOLDER}/{name}", default_buffer_prototype())
                except OSError as error:
                    if error.errno != errno.ELOOP:  # a link that leads to itself says nothing
                        raise
                    content = None
                if content is not None:
                    found[name] = content.to_bytes().decode(errors="replace")
            return found

        return sync(collect())

    def write(self, name: str, text: str) -> None:
        """Leave a note, or change it."""
        content = default_buffer_prototype().buffer.from_bytes(text.encode())
        sync(self._store.set(f"{FOLDER}/{name}", content))

    def drop(self, name: str) -> None:
        """Take a note away, if it is there."""
        sync(self._store.delete(f"{FOLDER}/{name}"))
