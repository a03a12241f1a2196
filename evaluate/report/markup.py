"""HTML that is safe by default: all text is escaped unless it is `Markup` already."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Text as HTML, for contents and for attributes in quotes."""
    return text if isinstance(text, Markup) else Markup(html.escape(text, quote=True))


def tag(name: str, attributes: Mapping[str, object] | None = None, *children: str) -> Markup:
    """An element. Attributes that are False or None are left out, those that are True have no value."""
    shown = "".join(
        f" {key}" if value is True else f' {key}="{escape(str(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None and value is not False
    )
    if name == "img":  # has no content and no end
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Elements and texts one after another."""
    return Markup("".join(map(escape, parts)))


def script_json(content: Any) -> Markup:
    """JSON that can stand in a `<script>`: nothing in it can end the element or begin a comment."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def number(value: float, digits: int = 3) -> str:
    """A number as it is shown; a dash where there is none."""
    return f"{value:.{digits}f}" if value == value else "–"


def cell(content: str, key: float | str | None = None, attributes: Mapping[str, object] | None = None) -> Markup:
    """A table cell.

    Args:
        key: what its column is sorted by; a number also sets it to the right. NaN sorts last.
    """
    given: dict[str, object] = {"class": "number"} if isinstance(key, float | int) else {}
    if key is not None:
        given["data-key"] = "" if key != key else key
    return tag("td", given | dict(attributes or {}), content)


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Iterable[Markup]],
    attributes: Mapping[str, object] | None = None,
) -> Markup:
    """A table in a frame that scrolls sideways where it is too wide.

    Args:
        head: names of the columns; those of numbers begin with `>`.
        rows: cells, the first one of each the name of the row.
        attributes: of the table.
    """
    titles = [
        tag("th", {"scope": "col", "class": "number" if title.startswith(">") else None}, title.removeprefix(">"))
        for title in head
    ]
    body = [tag("tr", {}, *row) for row in rows]
    element = tag(
        "table",
        attributes,
        tag("caption", {}, caption),
        tag("thead", {}, tag("tr", {}, *titles)),
        tag("tbody", {}, *body),
    )
    return tag("div", {"class": "scroll"}, element)


def row_name(name: str) -> Markup:
    """The header cell of a row."""
    return tag("th", {"scope": "row"}, name)
