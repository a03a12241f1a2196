"""Options that are lists: `a,b` on the command line, a list in a file."""

from pydantic import BeforeValidator


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    return value


COMMAS = BeforeValidator(_split)
