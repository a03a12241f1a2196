"""The location of a store: a folder, or a URL such as `s3://bucket/store.zarr`, which fsspec opens."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.core.errors import StoreError, first_line, is_disk_full
from abaw.core.files import Place, is_url
from abaw.store.feature_names import no_store

if TYPE_CHECKING:
    import zarr


def open_existing(place: Place) -> "zarr.Group":
    """Open the Zarr group at a place for reading.

    Raises:
        StoreError: nothing is there, or it cannot be reached.
    """
    import zarr  # the command line imports this module and must start fast

    try:
        return zarr.open_group(str(place), mode="r", use_consolidated=False, storage_options=_options(place))
    except (FileNotFoundError, ValueError) as error:
        if not is_url(place) and (Path(place) / "zarr.json").exists():
            raise StoreError(
                f"{place} is damaged, or no feature store: its zarr.json cannot be read ({first_line(error)}). Put the file "
                "back, or name another with --store."
            ) from error
        raise no_store(place) from error
    except Exception as error:  # what fsspec's file systems raise has no common type
        raise _unreachable(place, error) from error


def open_or_make(place: Place) -> "zarr.Group":
    """Open the Zarr group at a place for writing; make it if nothing is there.

    Raises:
        StoreError: something else is there, or nothing can be made.
    """
    import zarr  # as above
    from zarr.errors import ContainsGroupError

    from abaw.store.zarr_keys import FolderStore

    is_new = is_url(place) or _is_free(Path(place))
    if not is_new and not (Path(place) / "zarr.json").is_file():
        raise StoreError(f"{place} is not a feature store but something else. Name another with --store.")
    store = str(place) if is_url(place) else FolderStore(Path(place))
    try:
        try:
            return zarr.open_group(store, mode="a", use_consolidated=False, storage_options=_options(place))
        except ContainsGroupError:  # another process has just made it
            return zarr.open_group(store, mode="r+", use_consolidated=False, storage_options=_options(place))
    except (OSError, ValueError) as error:
        raise StoreError(f"No feature store can be made at {place} ({first_line(error)}).") from error
    except Exception as error:  # fsspec again
        raise _unreachable(place, error) from error


def _options(place: Place) -> dict[str, bool] | None:
    """Options of fsspec: listings are not kept, as other processes write into the store, too."""
    return {"use_listings_cache": False} if is_url(place) else None


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and all(child.suffix == ".partial" for child in folder.iterdir()))


def _unreachable(place: Place, error: Exception) -> StoreError:
    if isinstance(error, ImportError):
        return StoreError(
            f"{place} needs a package that is not there ({first_line(error)}): pip install '.[s3]' in abaw's folder."
        )
    return StoreError(
        f"The store at {place} cannot be reached ({first_line(error)}). Check its name, the address and your keys."
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
                f"{store} must not be written ({error.strerror or first_line(error)}). Choose another --store."
            ) from error
        raise
