"""A Zarr store in a folder that changes nothing through links: what they lead to is not the store's own."""

from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from abaw.core.errors import StoreError


class FolderStore(LocalStore):
    """Like zarr's, but a link below the root is an error where something is written or deleted. The root may be one."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a key."""
        self._check_parents(key)
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a key that is not there."""
        self._check_parents(key)
        await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """Delete a key; of a link the link."""
        self._check_parents(key)
        if (self.root / key).is_symlink():
            (self.root / key).unlink()
        else:
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all that is under a prefix."""
        self._check_parents(f"{prefix}/")
        await super().delete_dir(prefix)

    def _check_parents(self, key: str) -> None:
        place = self.root
        for name in Path(key).parts if key.endswith("/") else Path(key).parts[:-1]:
            place /= name
            if place.is_symlink():
                raise StoreError(
                    f"{place} is a link, and nothing is changed through a link in a store. Put what it leads to in its place."
                )
