"""The location of a store: a folder, or a URL such as `s3://bucket/store.zarr`, which fsspec opens."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.core.errors import StoreError, first_line, is_disk_full
from abaw.core.files import Place, is_url
from abaw.core.system_errors import lacks_threads
from abaw.store.feature_names import no_store

if TYPE_CHECKING:
    import zarr


def open_existing(location: Place) -> "zarr.Group":
    """Open the Zarr group at a location for reading.

    Raises:
        StoreError: it is missing, damaged, or cannot be reached.
    """
    import zarr  # the command line imports this module and must start fast

    try:
        return zarr.open_group(str(location), mode="r", use_consolidated=False, storage_options=_options(location))
    except (FileNotFoundError, ValueError) as error:
        if not is_url(location) and (Path(location) / "zarr.json").exists():
            raise StoreError(
                f"{location} is damaged, or is not a feature store: its zarr.json cannot be read ({first_line(error)}). Restore "
                "the file, or choose another store with --store."
            ) from error
        raise no_store(location) from error
    except Exception as error:  # what fsspec's file systems raise has no common type
        if lacks_threads(error):
            raise
        raise _unreachable(location, error) from error


def open_or_make(location: Place) -> "zarr.Group":
    """Open the Zarr group at a location for writing; create it if the location is free.

    Raises:
        StoreError: something else is there, or the store cannot be created.
    """
    import zarr  # as above
    from zarr.errors import ContainsGroupError

    from abaw.store.zarr_keys import FolderStore, make_root

    is_new = is_url(location) or _is_free(Path(location))
    if not is_new and not (Path(location) / "zarr.json").is_file():
        raise StoreError(f"{location} is not a feature store but something else. Name another place.")
    store = str(location) if is_url(location) else FolderStore(Path(location))
    try:
        if is_new and isinstance(store, FolderStore):
            make_root(store)
        try:
            return zarr.open_group(store, mode="a", use_consolidated=False, storage_options=_options(location))
        except ContainsGroupError:  # another process has just created it
            return zarr.open_group(store, mode="r+", use_consolidated=False, storage_options=_options(location))
    except (OSError, ValueError) as error:
        if lacks_threads(error):
            raise
        raise StoreError(
            f"Cannot create a feature store at {location} ({first_line(error)}). Choose another place with --store."
        ) from error
    except Exception as error:  # fsspec again
        if lacks_threads(error):
            raise
        raise _unreachable(location, error) from error


def _options(location: Place) -> dict[str, bool] | None:
    """Options for fsspec: listings are not cached, because other processes write to the store, too."""
    return {"use_listings_cache": False} if is_url(location) else None


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and all(child.suffix == ".partial" for child in folder.iterdir()))


def _unreachable(location: Place, error: Exception) -> StoreError:
    if isinstance(error, ImportError):
        return StoreError(
            f"{location} needs a package that is not installed ({first_line(error)}): pip install '.[s3]' in abaw's folder."
        )
    return StoreError(
        f"The store at {location} cannot be reached ({first_line(error)}). Check its name, the address and your keys."
    )


@contextmanager
def room_for(store: Place) -> Iterator[None]:
    """Turns the errors of a full or write-protected disk into a StoreError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StoreError(
                f"No space left to write into {store} ({error.strerror or first_line(error)}). Free some space and run the same command again."
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StoreError(
                f"{store} is not writable ({error.strerror or first_line(error)}). Choose another --store."
            ) from error
        raise
