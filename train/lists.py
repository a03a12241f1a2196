"""Options that are lists: `a,b` on the command line, a list in a file."""

from pydantic import BeforeValidator


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and value else value


COMMAS = BeforeValidator(_split)
