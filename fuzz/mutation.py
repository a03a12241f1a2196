"""A case of hostile input as plain data, and how it changes a file: bytes, text, the values of a document, an archive.

A case is a literal: what is printed of one that fails can be pasted into a test, or run by `WorkerProcess.run`.
"""

import ast
import io
import json
import os
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Change = tuple[str, tuple[Any, ...]]  # the name of a function below, and its arguments


class Case(NamedTuple):
    """What is done to which file, and what is done with it then."""

    kind: str
    route: str
    file: str
    changes: tuple[Change, ...]


DEEP = "a value that is nested deeply"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1.5, 2**31, 2**63, 10**12, -(10**12), 10**30, 10**400, 1e308, -1e-9),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "nan", "1e400", "0", "../x", "/etc/passwd", "a/b", "a\\b"),
    *("..", ".", "\0", "\n", "\u202e\u2028", "💥", "\udc80", "x" * 100_000, [], {}, [[]], [0], [-1], [1e12]),
    *([10**6, 10**6], [10**12], ["x"], [None], {"": {}}, {"name": "x"}, [{}], DEEP, "int8", "object", "c", [1] * 40),
)
TOKENS = (
    *(b"", b" ", b"nan", b"inf", b"-inf", b"1e400", b"-1", b"0", b"-0", b"1" * 5000, b"9" * 20, b"0x10", b"1_000"),
    *("１".encode(), "²".encode(), "\u2028".encode(), "\u202e".encode(), "💥".encode(), b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"\0", b"\r", b"\n", b"\n\n\n", b"\t", b"a/b", b"a\\b", b"../x", b"..", b".", b"/etc/passwd", b"C:\\x"),
    *(b"#", b'"', b"'", b"'''", b"[", b"[[", b"{", b"=", b",", b",,,,", b"\x1b[31m", b"x" * 200_000, b"[" * 5000),
    *(b"1.mp4.img.75.pt", b"%s%n", b"${HOME}", b"!!python/object", b"__class__", b"\x85", b"\x0c", b"\x1c", b"1e3"),
)


# bytes


def replace_all(content: bytes, new: bytes) -> bytes:
    """Something else entirely."""
    return new


def fill(content: bytes, keep: int, new: bytes) -> bytes:
    """The first bytes, by which a format is told, and then something else."""
    return content[:keep] + new


def flip(content: bytes, at: float, bit: int) -> bytes:
    """One bit is another."""
    if not content:
        return content
    changed = bytearray(content)
    changed[_place(at, content)] ^= 1 << bit
    return bytes(changed)


def cut(content: bytes, at: float) -> bytes:
    """The end is missing."""
    return content[: _place(at, content)]


def remove(content: bytes, at: float, n: int) -> bytes:
    """A part is missing."""
    return content[: _place(at, content)] + content[_place(at, content) + n :]


def insert(content: bytes, at: float, new: bytes) -> bytes:
    """There is more."""
    return content[: _place(at, content)] + new + content[_place(at, content) :]


def overwrite(content: bytes, at: float, new: bytes) -> bytes:
    """A part is another, of the same length."""
    return content[: _place(at, content)] + new + content[_place(at, content) + len(new) :]


def repeat(content: bytes, at: float, n: int, times: int) -> bytes:
    """A part is there many times."""
    start = _place(at, content)
    return content[:start] + content[start : start + n] * times + content[start + n :]


def _place(at: float, content: bytes) -> int:
    return min(int(at * len(content)), max(0, len(content) - 1))


# text


def put_token(content: bytes, at: float, token: int) -> bytes:
    """A word or number is another."""
    words = list(_words(content))
    if not words:
        return TOKENS[token]
    start, stop = words[min(int(at * len(words)), len(words) - 1)]
    return content[:start] + TOKENS[token] + content[stop:]


def _words(content: bytes) -> Any:
    start = None
    for i, byte in enumerate(content + b"\n"):
        inside = chr(byte).isalnum() or byte in b"._-+/" or byte > 127
        if inside and start is None:
            start = i
        elif not inside and start is not None:
            yield start, i
            start = None


def change_lines(content: bytes, at: float, how: str) -> bytes:
    """A line is missing, there twice, or exchanged with the next; or ends are those of other systems."""
    lines = content.split(b"\n")
    i = min(int(at * len(lines)), len(lines) - 1)
    if how == "drop":
        del lines[i]
    elif how == "double":
        lines.insert(i, lines[i])
    elif how == "swap":
        lines[i : i + 2] = reversed(lines[i : i + 2])
    elif how == "empty":
        lines.insert(i, b"")
    else:
        return {"mac": b"\r", "windows": b"\r\n", "one": b" "}[how].join(lines)
    return b"\n".join(lines)


# documents: JSON, TOML, the header of safetensors and of NumPy's format


def set_value(content: bytes, suffix: str, at: float, value: int) -> bytes:
    """A value somewhere is another."""

    def change(parent: Any, key: Any) -> None:
        parent[key] = VALUES[value]

    return _edit(content, suffix, at, change)


def drop_key(content: bytes, suffix: str, at: float) -> bytes:
    """A value somewhere is missing."""

    def change(parent: Any, key: Any) -> None:
        del parent[key]

    return _edit(content, suffix, at, change)


def rename_key(content: bytes, suffix: str, at: float, name: int) -> bytes:
    """A value somewhere is under another name; an element of a list is there twice."""

    def change(parent: Any, key: Any) -> None:
        if isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent[str(VALUES[name])] = parent.pop(key)

    return _edit(content, suffix, at, change)


def _edit(content: bytes, suffix: str, at: float, change: Callable[[Any, Any], None]) -> bytes:
    parse, dump = DOCUMENTS[suffix]
    try:
        tree, rest = parse(content)
    except Exception:  # an earlier change made it unreadable
        return content[::-1]
    places = list(_nodes(tree))
    if places:
        change(*places[min(int(at * len(places)), len(places) - 1)])
    return dump(tree, rest)


def _nodes(tree: Any) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from _nodes(value)


def _dump_json(tree: Any) -> bytes:
    text = json.dumps(tree).replace(json.dumps(DEEP), "[" * 5000 + "]" * 5000)
    return text.encode("utf-8", "surrogatepass")


def _dump_toml(tree: dict[str, Any], _: bytes) -> bytes:
    return b"".join(json.dumps(key).encode() + b" = " + _toml(value) + b"\n" for key, value in tree.items())


def _toml(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"{" + b", ".join(json.dumps(key).encode() + b" = " + _toml(one) for key, one in value.items()) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b", ".join(map(_toml, value)) + b"]"
    if isinstance(value, float) or value is None:
        return repr(value).encode()
    return _dump_json(value)


def _parse_safetensors(content: bytes) -> tuple[Any, bytes]:
    n = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + n]), content[8 + n :]


def _dump_safetensors(tree: Any, rest: bytes) -> bytes:
    header = _dump_json(tree)
    return len(header).to_bytes(8, "little") + header + rest


def _parse_npy(content: bytes) -> tuple[Any, bytes]:
    n = 10 + int.from_bytes(content[8:10], "little")
    header = ast.literal_eval(content[10:n].decode().strip())
    return {**header, "shape": list(header["shape"])}, content[n:]


def _dump_npy(tree: Any, rest: bytes) -> bytes:
    shape = tree.get("shape")
    whole = {**tree, "shape": tuple(shape)} if isinstance(shape, list) else tree
    header = repr(whole).encode("utf-8", "surrogateescape").ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + min(len(header), 65535).to_bytes(2, "little") + header + rest


DOCUMENTS: dict[str, tuple[Callable[[bytes], tuple[Any, bytes]], Callable[[Any, bytes], bytes]]] = {
    ".json": (lambda content: (json.loads(content), b""), lambda tree, _: _dump_json(tree)),
    ".toml": (lambda content: (tomllib.loads(content.decode()), b""), _dump_toml),
    ".safetensors": (_parse_safetensors, _dump_safetensors),
    ".npy": (_parse_npy, _dump_npy),
}


# archives: .npz and .pt


def change_member(content: bytes, at: float, change: Change) -> bytes:
    """A file in an archive is another."""

    def edit(members: list[tuple[str, bytes]], i: int) -> None:
        members[i] = members[i][0], apply(members[i][1], change)

    return _rewrite(content, at, edit)


def rename_member(content: bytes, at: float, name: int) -> bytes:
    """A file in an archive has another name."""

    def edit(members: list[tuple[str, bytes]], i: int) -> None:
        text = str(VALUES[name])[:60000].encode("utf-8", "replace").decode()
        members[i] = f"{text.strip(chr(0)) or ' '}{Path(members[i][0]).suffix}", members[i][1]  # zipfile wants a name

    return _rewrite(content, at, edit)


def drop_member(content: bytes, at: float) -> bytes:
    """A file in an archive is missing."""
    return _rewrite(content, at, lambda members, i: members.pop(i))


def _rewrite(content: bytes, at: float, edit: Callable[[list[tuple[str, bytes]], int], object]) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # an earlier change made it unreadable
        return content[::-1]
    if members:
        edit(members, min(int(at * len(members)), len(members) - 1))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, inside in members:
            archive.writestr(name, inside)
    return made.getvalue()


def apply(content: bytes, change: Change) -> bytes:
    """The content after one change."""
    name, arguments = change
    changed = CHANGES[name](content, *arguments)
    return changed[: 4 * 2**20]


CHANGES: dict[str, Callable[..., bytes]] = {
    one.__name__: one
    for one in (
        *(replace_all, fill, flip, cut, remove, insert, overwrite, repeat, put_token, change_lines),
        *(set_value, drop_key, rename_key, change_member, rename_member, drop_member),
    )
}


# files

NAMES = (
    "a\nb",
    "\udcff",
    "💥\u202e",
    "..x",
    ".x",
    "-x",
    "_x",
    " x ",
    "a\\b",
    "zarr.json",
    "nul",
    "x" * 240,
    "a:b",
    "1",
    "[red]",
    "%2e%2e",
)


def change_file(file: Path, change: Change, outside: Path) -> Path:
    """Change a file, its name, or what stands in its place: nothing, a folder, a link that leads out.

    Returns:
        Where it is now.
    """
    name, arguments = change
    if name == "place":
        _put_in_place(file, arguments[0], outside)
    elif name == "rename":
        return _rename(file, outside, *arguments)
    elif file.is_file() and not file.is_symlink():
        file.write_bytes(apply(file.read_bytes(), change))
    return file


def _rename(file: Path, outside: Path, name: int, is_folder: bool) -> Path:
    is_folder = is_folder and file.parent.parent != outside.parent  # the case's own folder stays
    old = file.parent if is_folder else file
    new = old.with_name(NAMES[name] + old.suffix)
    if not os.path.lexists(old) or os.path.lexists(new):
        return file
    old.rename(new)
    return new / file.name if is_folder else new


def _put_in_place(file: Path, what: str, outside: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        return
    content = file.read_bytes() if file.is_file() else b""
    file.unlink(missing_ok=True)
    if what == "folder":
        file.mkdir()
    elif what == "empty":
        file.touch()
    elif what == "link":  # to a copy: what counts is that nothing is written through it
        target = outside / f"linked{file.suffix}"
        if not target.exists():
            target.write_bytes(content)
        file.symlink_to(target)
    elif what == "loop":
        file.symlink_to(file.name)
