"""Plug-ins: objects that distributions list under abaw's groups of entry points, such as `abaw.backbones`.

abaw lists its own backbones, heads and so on in its setup.cfg; other distributions add theirs in the same way. A
process loads a group once, when it first needs it; cluster workers load their own.
"""

import configparser
import importlib
import logging
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from threading import RLock
from traceback import walk_tb
from typing import Any, Generic, TypeVar

from abaw import __version__
from abaw.core.errors import UsageError, first_line, printable

OWN = "abaw"  # name of abaw's own distribution
CHECKOUT_LIST = Path(__file__).resolve().parent.parent / "setup.cfg"  # missing in an installed package

T = TypeVar("T")

_logger = logging.getLogger(__name__)
_lock = RLock()
_loaded: dict[tuple[str, type], tuple["Plugin[Any]", ...]] = {}  # of this process, by group and kind
_packages: dict[str, str] = {}  # where they come from that are no part of abaw
_named: dict[tuple[str, type], dict[str, "Plugin[Any]"]] = {}


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """An object that a distribution provides.

    Attributes:
        name: of the entry point.
        value: the object.
        group: of entry points.
        source: distribution and version, such as "abaw-hog 1.2".
        built_in: True if abaw itself provides it.
    """

    name: str
    value: T
    group: str
    source: str
    built_in: bool

    def reject(self, error: Exception) -> None:
        """Log one warning that this plug-in is not used, and why."""
        _warn(self.name, self.group, self.source, error)


def load_group(group: str, kind: type[T]) -> tuple[Plugin[T], ...]:
    """All plug-ins of a group: abaw's own by name, then the others by distribution and name.

    A plug-in that cannot be loaded, or is not an instance of `kind`, is left out with one warning.

    Args:
        group: such as "abaw.heads".
        kind: class that every object of the group is an instance of.
    """
    with _lock:
        if (group, kind) not in _loaded:
            _loaded[group, kind] = _load(group, kind)
        return _loaded[group, kind]


def load_named(group: str, kind: type[T]) -> dict[str, Plugin[T]]:
    """Plug-ins of a group whose names identify them; a name that is taken is left out with one warning."""
    with _lock:
        if (group, kind) not in _named:
            named = _named[group, kind] = {}
            for plugin in load_group(group, kind):
                owner = named.setdefault(plugin.name, plugin)
                if owner is not plugin:
                    plugin.reject(ValueError(f"the name is taken by {owner.source}"))
        return dict(_named[group, kind])


def load_object(name: str) -> Any:
    """What `module:name` names, of a module on the path or in the working folder; runs its code.

    Raises:
        UsageError: the module cannot be imported, or has nothing of that name.
    """
    module, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that a file there hides no module that is installed
    note_package(module, f"module {module}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs foreign code
        raise UsageError(
            f"{name} cannot be loaded ({type(error).__name__}: {first_line(error).rstrip('.')}). Name a class of a module "
            "that Python can import, or of a file MODULE.py in this folder, as MODULE:CLASS."
        ) from error


def source_of_fault(error: BaseException) -> str:
    """Distribution and version of the plug-in whose code raised an error, or its module; empty if abaw's own did."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == OWN:
            return ""
        if package in _packages:
            return _packages[package]
    return ""


def note_package(module: str, source: str) -> None:
    """Keep in mind where a module comes from that is no part of abaw and is imported here, for `source_of_fault`."""
    if not _is_own(source):
        _packages[module.partition(".")[0]] = source


def list_sources(group: str) -> dict[str, str]:
    """Distribution and version of each named plug-in of a group; loads none of them."""
    return {entry.name: source for entry, source in reversed(_entries(group))}  # a name belongs to the first


def _load(group: str, kind: type[T]) -> tuple[Plugin[T], ...]:
    plugins = []
    for entry, source in _entries(group):
        note_package(entry.module, source)
        try:
            value = entry.load()
            if not isinstance(value, kind):
                raise TypeError(f"{entry.value} is a {type(value).__name__}, not a {kind.__name__}")
        except Exception as error:  # importing runs foreign code
            _warn(entry.name, group, source, error)
            continue
        plugins.append(Plugin(entry.name, value, group, source, _is_own(source)))
    return tuple(plugins)


def _entries(group: str) -> list[tuple[EntryPoint, str]]:
    """Entry points of a group with their distributions."""
    entries = list(_installed(group, tuple(sys.path)))
    if CHECKOUT_LIST.is_file():  # the metadata of abaw may be missing, out of date, or of another checkout
        entries = [(entry, source) for entry, source in entries if not _is_own(source)] + _listed_in_checkout(group)
    return sorted(entries, key=lambda pair: (not _is_own(pair[1]), pair[1], pair[0].name))


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[tuple[EntryPoint, str], ...]:
    """Entry points of a group on a path; the metadata of each distribution, with its README, are read once."""
    sources: dict[int, str] = {}
    entries = []
    for entry in entry_points(group=group):
        distribution = entry.dist
        if id(distribution) not in sources:
            sources[id(distribution)] = _source_of(distribution)
        entries.append((entry, sources[id(distribution)]))
    return tuple(entries)


def _source_of(distribution: Distribution | None) -> str:
    """Distribution and version; metadata may lack either."""
    known = distribution.metadata if distribution else None
    if known is None or "Name" not in known:
        return "an unknown distribution"
    return f"{known['Name']} {known['Version']}" if "Version" in known else known["Name"]


def _listed_in_checkout(group: str) -> list[tuple[EntryPoint, str]]:
    config = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    config.read(CHECKOUT_LIST, encoding="utf-8")
    lines = config.get("options.entry_points", group, fallback="").strip().splitlines()
    pairs = [line.partition("=")[::2] for line in lines]
    return [(EntryPoint(name.strip(), value.strip(), group), f"{OWN} {__version__}") for name, value in pairs]


def _is_own(source: str) -> bool:
    return source.split()[0] == OWN


def _warn(name: str, group: str, source: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {first_line(error)}".rstrip(".")
    _logger.warning("%s", printable(f"Plug-in {name} ({group}) of {source} is left out: {reason}."))
