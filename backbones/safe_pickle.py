"""Reading a pickle without running any of it: every name in it becomes an object that does nothing.

Used to describe a refused file and how to convert it, and to read plain pickles of NumPy arrays.
"""

import io
import json
import pickle
import shlex
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.backbones.averaged_weights import averaging

MAGIC = 0x1950A86A20F9469CFC6C  # first in torch's files before they were archives
DEPTH = 6  # of nested mappings
Step = str | int


class Inert:
    """Stand-in for any object of a pickle; keeps what the object would be made of.

    Attributes:
        name: full name of the class or function.
        arguments: of the call.
        state: that the object would get.
        content: items and elements.
    """

    name = ""

    def __new__(cls, *arguments: object, **_: object) -> "Inert":
        """Keep the arguments."""
        stand_in = super().__new__(cls)
        stand_in.__dict__.update(arguments=arguments, state=None, content={})
        return stand_in

    def __init__(self, *arguments: object, **_: object) -> None:
        self.arguments: tuple[Any, ...]
        self.state: Any
        self.content: dict[Any, Any]

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Keep an item."""
        self.content[key] = value

    def append(self, element: object) -> None:
        """Keep an element."""
        self.content[len(self.content)] = element

    def extend(self, elements: list) -> None:
        """Keep elements."""
        for element in elements:
            self.append(element)

    def add(self, element: object) -> None:
        """Keep an element of a set."""
        self.append(element)


class InertUnpickler(pickle.Unpickler):
    """Reads a pickle; imports nothing.

    Attributes:
        names: full names of all that the pickle imports, by their names of today.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, encoding="latin1")
        self.names: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> type[Inert]:
        """A separate class for each name."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # of Python 2
        full = f"{module}.{name}"
        return self.names.setdefault(full, type("Inert", (Inert,), {"name": full}))

    def persistent_load(self, pid: object) -> object:
        """References to values of tensors; in old files also to classes with their source."""
        return pid[1] if isinstance(pid, tuple) and pid[:1] == ("module",) else None


@dataclass(frozen=True)
class Pickled:
    """The content of a file's pickle.

    Attributes:
        content: mappings, lists, plain values and `Inert` objects.
        names: full names of all that the pickle imports.
        by_torch: True if torch wrote the file.
    """

    content: Any
    names: tuple[str, ...]
    by_torch: bool


def read_inert(file: Path) -> Pickled:
    """The pickle of a file, read without importing anything.

    Raises:
        Exception: the file is damaged or no pickle; many types.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            member = next(name for name in archive.namelist() if name.split("/")[-1] == "data.pkl")
            unpickler = InertUnpickler(io.BytesIO(archive.read(member)))
        return Pickled(unpickler.load(), tuple(unpickler.names), True)
    with file.open("rb") as stream:
        unpickler = InertUnpickler(stream)
        content = unpickler.load()
        by_torch = content == MAGIC
        for _ in range(3 if by_torch else 0):  # the format's version, the machine it was saved on, and what was saved
            unpickler = InertUnpickler(stream)
            content = unpickler.load()
        return Pickled(content, tuple(unpickler.names), by_torch)


def read_arrays(content: Any, depth: int = DEPTH) -> Any:
    """The content of an inert pickle with its NumPy arrays built, without other inert objects."""
    array = _array(content)
    if array is not None:
        return array
    children = _children(content)
    if children is None or not depth:
        return None if isinstance(content, Inert) else content
    return {key: read_arrays(value, depth - 1) for key, value in children.items()}


def _array(value: Any) -> NDArray | None:
    """The array that a stand-in describes; None if it is something else, or not of numbers."""
    if not isinstance(value, Inert):
        return None
    if value.name.endswith(".multiarray._reconstruct") and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, kind, by_columns, values = value.state
    elif value.name.endswith(".numeric._frombuffer") and len(value.arguments) == 4:
        values, kind, shape, order = value.arguments
        by_columns = order == "F"
    else:
        return None
    if isinstance(values, Inert):  # bytes of Python 3 in a pickle for Python 2 are a call of _codecs.encode
        values = values.arguments[0]
    data = values.encode("latin1") if isinstance(values, str) else bytes(values)
    name = kind.arguments[0] if isinstance(kind, Inert) and kind.arguments else ""
    if not isinstance(name, str) or not name or name[0] not in "fiub":
        return None
    foreign = isinstance(kind.state, tuple) and kind.state[1] == (">" if sys.byteorder == "little" else "<")
    array = np.frombuffer(data, np.dtype(name))
    array = array.byteswap() if foreign else array
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _children(content: Any) -> Mapping[Any, Any] | None:
    if isinstance(content, Inert):
        return content.content or None
    if isinstance(content, Mapping):
        return content
    return dict(enumerate(content)) if isinstance(content, list | tuple) else None


def describe_refused(file: Path) -> str:
    """What a refused pickle holds, and how to extract its weights; "" if that is unknown.

    The sentence's subject is the file.
    """
    try:
        pickled = read_inert(file)
        networks = [(path, value) for path, value in _walk(pickled.content) if _is_network(value)]
        if networks:
            path, network = max(networks, key=lambda entry: averaging(map(str, entry[0])))
            package = network.name.split(".")[0]
            where = (
                "" if package in ("torch", "__main__", "builtins") else f", where the package {package} is installed"
            )
            problem = f"is a whole pickled network ({network.name})"
            return f"{problem}; {_way_out(file, pickled, path, '.state_dict()', where)}"
        sizes = {path: _n_tensors(value) for path, value in _walk(pickled.content)}
        most = max(sizes.values(), default=0)
        if not most:
            return ""
        path = max((path for path, n in sizes.items() if 2 * n > most), key=lambda path: averaging(map(str, path)))
        return f"holds more than tensors; {_way_out(file, pickled, path, '', '')}"
    except Exception:  # it is damaged
        return ""


def _way_out(file: Path, pickled: Pickled, path: tuple[Step, ...], more: str, where: str) -> str:
    target = file.with_name(f"{file.stem}-weights.pth")
    name = json.dumps(str(file), ensure_ascii=False)
    opened = f'torch.load({name}, map_location="cpu", weights_only=False)'
    if not pickled.by_torch:
        opened = f'pickle.load(open({name}, "rb"))'
    steps = "".join(f"[{json.dumps(step, ensure_ascii=False)}]" for step in path)
    code = f"import pickle, torch; torch.save({opened}{steps}{more}, {json.dumps(str(target), ensure_ascii=False)})"
    return (
        "opening it could run code, so it was not opened. If you trust it, extract the weights with "
        f"`python -c {shlex.quote(code)}`{where}, and pass {target}."
    )


def _walk(content: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Everything that keys and indices lead to, with these."""
    yield path, content
    if len(path) < DEPTH and not _is_network(content):
        for key, value in (_children(content) or {}).items():
            if isinstance(key, str | int):
                yield from _walk(value, (*path, key))


def _is_network(value: Any) -> bool:
    """True for a torch module, which has its parts and parameters in its state."""
    state = value.state if isinstance(value, Inert) else None
    return isinstance(state, Mapping) and {"_modules", "_parameters"} <= state.keys()


def _n_tensors(value: Any) -> int:
    values = (_children(value) or {}).values()
    return sum(isinstance(value, Inert) and value.name.startswith("torch._utils._rebuild_") for value in values)
