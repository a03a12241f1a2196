"""TOML files that people write, such as recipes: parsing takes time that grows with the square of some contents."""

import tomllib
from pathlib import Path
from typing import Any

MAX_BYTES = 2**16  # a recipe has two thousand


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not valid TOML in UTF-8, or has more than `MAX_BYTES`.
        RecursionError: its tables are nested too deeply.
    """
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return tomllib.loads(content.decode())
