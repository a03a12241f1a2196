"""YAML of others, read without making any object that it names: only texts, lists and mappings come out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abaw.core.errors import DataError, first_line
from abaw.media.links import check_file

MAX_BYTES = 2**23
MAX_DEPTH = 20
Tree = Any  # a text, a list of trees, or a dict of texts and trees


def read_yaml(path: Path, skip: frozenset[str] = frozenset(), max_bytes: int = MAX_BYTES) -> Tree:
    """The first document of a YAML file. Tags such as `!!python/tuple` are ignored: all values are texts, lists and dicts.

    An alias gives the object of its anchor itself, and merge keys are ordinary keys, so that nothing grows beyond the file.

    Args:
        skip: keys whose values are read over and left out.
        max_bytes: of the file.

    Raises:
        DataError: it cannot be read, is too large, is nested too deeply, or is no YAML.
    """
    import yaml

    if check_file(path).stat().st_size > max_bytes:
        raise DataError(f"{path} has more than {max_bytes:,} bytes. Split it, or convert it to JSON.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open("rb") as stream:
            return _build(yaml.parse(stream, Loader=loader), skip)
    except (yaml.YAMLError, ValueError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        what = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else first_line(error)
        raise DataError(f"{path} cannot be read as YAML ({what}). Copy it again.") from error


def _build(events: Iterator[Any], skip: frozenset[str]) -> Tree:
    """The tree of the first document. A loop and no recursion: files may be nested as deeply as they like."""
    anchors: dict[str, Tree] = {}
    open_nodes: list[list[Tree]] = [[]]  # children so far; of mappings keys and values in turn
    nodes: list[Tree] = []  # the containers that they fill
    n_skipped = 0  # depth inside a value that is left out
    for event in events:
        kind = type(event).__name__
        if kind == "DocumentEndEvent":
            break
        if n_skipped or _is_skipped(nodes, open_nodes, skip, kind):
            n_skipped += kind.endswith("StartEvent") - kind.endswith("EndEvent")
            if not n_skipped:
                open_nodes[-1].append(None)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            if len(nodes) == MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
            node: Tree = [] if kind == "SequenceStartEvent" else {}
            _add(open_nodes[-1], node, event.anchor, anchors)
            nodes.append(node)
            open_nodes.append([])
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            _fill(nodes.pop(), open_nodes.pop())
        elif kind == "ScalarEvent":
            _add(open_nodes[-1], event.value, event.anchor, anchors)
        elif kind == "AliasEvent":
            if event.anchor not in anchors:
                raise ValueError(f"alias {event.anchor[:40]!r} has no anchor")
            open_nodes[-1].append(anchors[event.anchor])
    return open_nodes[0][0] if open_nodes[0] else None


def _is_skipped(nodes: list[Tree], open_nodes: list[list[Tree]], skip: frozenset[str], kind: str) -> bool:
    """True for the beginning of a value of a mapping whose key is left out."""
    children = open_nodes[-1]
    is_value = bool(nodes) and isinstance(nodes[-1], dict) and len(children) % 2 == 1
    return is_value and kind.endswith("StartEvent") and isinstance(children[-1], str) and children[-1] in skip


def _add(children: list[Tree], node: Tree, anchor: str | None, anchors: dict[str, Tree]) -> None:
    children.append(node)
    if anchor is not None:
        anchors[anchor] = node


def _fill(node: Tree, children: list[Tree]) -> None:
    """Put the children of a container into it; keys that are no texts are left out."""
    if isinstance(node, list):
        node += children
    else:
        pairs = zip(children[::2], children[1::2], strict=True)
        node |= {key: value for key, value in pairs if isinstance(key, str)}
