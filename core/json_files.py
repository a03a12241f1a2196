"""JSON of others: a file may be of any size, and nested so deeply that parsing it fails in its own way."""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 2**23  # what `abaw` writes has some thousands; eight million take a second to parse


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with a byte order mark or without.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, is nested too deeply, or has more than `MAX_BYTES`.
    """
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return parse_json(content.decode("utf-8-sig"))


def parse_json(text: str) -> Any:
    """The value of a text in JSON.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
