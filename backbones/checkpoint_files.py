"""Opening a checkpoint without running any code in it.

Objects that are saved with the weights (options, paths, dates, configurations) are replaced: torch gets a harmless
stand-in for each of their names. A file that would have to run code is refused.
"""

import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abaw.backbones.checkpoint_formats import describe_absence, describe_kind
from abaw.backbones.safe_pickle import Pickled, describe_refused, read_arrays, read_inert
from abaw.core.errors import CheckpointError
from abaw.core.unpacking import claims_of


class Aside:
    """Stand-in for a class whose objects are saved with weights: takes any arguments and keeps nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "Aside":
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Nothing."""

    def __setstate__(self, state: object) -> None:
        """Nothing."""


class PickledTable:
    """Stand-in for a class of mappings: makes a plain one, whose items come later."""

    def __new__(cls, *args: object, **kwargs: object) -> OrderedDict:  # type: ignore[misc]
        """An empty mapping."""
        return OrderedDict()


class PickledRow:
    """Stand-in for a class of lists: makes a plain one, whose elements come later."""

    def __new__(cls, *args: object, **kwargs: object) -> list:  # type: ignore[misc]
        """An empty list."""
        return []


# Modules of options, paths, dates and numbers, and modules of mappings with configurations.
ASIDE_MODULES = ("argparse", "datetime", "decimal", "fractions", "omegaconf", "pathlib", "types", "typing", "uuid")
TABLE_MODULES = ("addict", "box", "easydict", "fvcore", "ml_collections", "mmcv", "mmengine", "munch", "yacs")
TABLE_ENDINGS = ("Args", "Arguments", "AttrDict", "Cfg", "CfgNode", "Config", "ConfigDict", "DictConfig", "EasyDict",
                 "HParams", "Hparams", "Namespace", "Options")  # fmt: skip
PLAIN = (
    "bool",
    "bytes",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "slice",
    "str",
    "tuple",
    "type",
)
MAX_HEADER_BYTES = 2**23  # a tensor takes about a hundred
STAND_INS: dict[str, type] = {
    "collections.defaultdict": PickledTable,
    "collections.deque": PickledRow,
    **{f"builtins.{name}": Aside for name in PLAIN},
}
# Arrays and scalars of numpy are allowed. The modules of these two functions have had two names.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
NUMPY: tuple[Any, ...] = (
    np.dtype,
    np.ndarray,
    *{type(np.dtype(kind)) for kind in np.typecodes["All"]},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
)
OF_ARRAYS = ("numpy.ndarray", "numpy.dtype", "_codecs.encode", "collections.OrderedDict", "numpy.core.", "numpy._core.")


def open_checkpoint(file: Path) -> Any:
    """The content of a checkpoint. Runs no code of the file.

    Raises:
        CheckpointError: the file is missing, is not a checkpoint of torch or safetensors, or would have to run code.
    """
    if not file.is_file():
        raise CheckpointError(describe_absence(file))
    if claims := claims_of(file) or _header_claims(file):
        raise CheckpointError(f"{file} is not read: {claims}. Download it again, or save it with torch.save.")
    try:
        kind = describe_kind(file)
        if not kind:
            return _load(file)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_describe_refusal(file, error)) from error
    except Exception as error:  # each format has its own errors for damaged bytes
        raise CheckpointError(
            f"{file} cannot be read as weights ({_reason(error)}). It should be a .safetensors file or a state "
            "dict saved by torch; download it again if it was cut off."
        ) from error
    raise CheckpointError(f"{file} {kind}")


def _load(file: Path) -> Any:
    if _is_safetensors(file):
        from safetensors.torch import load_file

        return load_file(file)
    pickled = _read_inert(file)
    if pickled is not None and _is_of_arrays(pickled):
        return read_arrays(pickled.content)
    names = pickled.names if pickled is not None else ()
    stand_ins = [(stand_in, name) for name in names if (stand_in := _stand_in(name)) is not None]
    # a stream, because torch judges files by their names
    with (
        file.open("rb") as stream,
        torch.serialization.safe_globals([*NUMPY, *stand_ins]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of the pickle's protocol, and of old ways to write
        return torch.load(stream, map_location="cpu", weights_only=True)


def _header_claims(file: Path) -> str:
    """Why the table of a safetensors file is not read: a clause; empty if it is as long as those of networks."""
    with file.open("rb") as stream:
        head = stream.read(9)
    n_bytes = int.from_bytes(head[:8], "little")
    is_long = head[8:] == b"{" and MAX_HEADER_BYTES < n_bytes < file.stat().st_size
    return f"its table of tensors has {n_bytes:,} bytes" if is_long else ""


def _is_safetensors(file: Path) -> bool:
    """By its content, the length of a table and the table in JSON; a damaged file by its name."""
    with file.open("rb") as stream:
        head = stream.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return True
    return file.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80"))


def _read_inert(file: Path) -> Pickled | None:
    """The content of a pickle; None if the file is damaged or no pickle, which opening it reports."""
    try:
        return read_inert(file)
    except Exception:
        return None


def _is_of_arrays(pickled: Pickled) -> bool:
    """True for pickles that hold only NumPy arrays and were not written by torch."""
    return not pickled.by_torch and bool(pickled.names) and all(name.startswith(OF_ARRAYS) for name in pickled.names)


def _stand_in(name: str) -> type | None:
    """The stand-in for a name that a checkpoint imports; None if it has none."""
    if name in STAND_INS:
        return STAND_INS[name]
    module, _, class_name = name.rpartition(".")
    top = module.split(".")[0]
    if top in ASIDE_MODULES or module.startswith(("numpy.random", "torch.optim")):
        return Aside
    kind = getattr(np, class_name, None) if module == "numpy" else None
    if isinstance(kind, type) and issubclass(kind, np.generic):
        return Aside
    if top in TABLE_MODULES or (class_name.endswith(TABLE_ENDINGS) and top not in ("torch", "builtins")):
        return PickledTable
    return None


def _describe_refusal(file: Path, error: Exception) -> str:
    kind = describe_refused(file)
    if kind:
        return f"{file} {kind}" if "network (" in kind else f"{file} {kind.replace(';', f' ({_reason(error)});', 1)}"
    return (
        f"{file} holds more than tensors, or is a pickle that torch did not write ({_reason(error)}); opening it "
        "could run code, so it was not opened. If you trust it, open it with "
        "torch.load(FILE, weights_only=False) or pickle.load, and save its state dict alone: "
        "torch.save(model.state_dict(), NEW_FILE)."
    )


def _reason(error: Exception) -> str:
    """The first line of an error; for a refusal by torch that of its cause, which names what was refused."""
    cause = error.__context__ if isinstance(error, pickle.UnpicklingError) and error.__context__ else error
    line = (str(cause) or type(cause).__name__).splitlines()[0]
    if line.startswith("Unsupported operand"):  # torch opens what pickle's protocol 2 writes
        line = "it was saved with a newer pickle protocol than torch's own"
    return line.split(". ")[0].rstrip(".")
