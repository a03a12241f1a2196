"""Dividing work: reading `K/N`, and dealing items evenly by size."""

import heapq
import re
from collections.abc import Mapping

from abaw.core.errors import UsageError


def split_evenly(sizes: Mapping[str, int], n_parts: int) -> list[list[str]]:
    """Deal names into parts of about equal total size: the largest first, each to the smallest part. Deterministic."""
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    heap = [(0, number) for number in range(n_parts)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        total, number = heapq.heappop(heap)
        parts[number].append(name)
        heapq.heappush(heap, (total + sizes[name], number))
    return parts


def parse_part(text: str) -> tuple[int, int]:
    """Number and total of a part `I/N`.

    Raises:
        UsageError: the text has another form.
    """
    part = parse_k_of_n(text)
    if part is None:
        raise UsageError(f"A part is I/N, such as 2/8, with I from 1 to N; found {text!r}.")
    return part


def parse_k_of_n(text: str) -> tuple[int, int] | None:
    """K and N of `K/N` with K from 1 to N; None for any other text."""
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    number, total = map(int, match.groups()) if match else (0, 0)
    return (number, total) if 1 <= number <= total else None
