"""Dividing work: parts `K/N`, and sizes dealt evenly."""

import heapq
import re
from collections.abc import Mapping

from abaw.core.errors import UsageError


def split_evenly(sizes: Mapping[str, int], n_parts: int) -> list[list[str]]:
    """Deal names into parts of about equal sums: the largest first, each to the part that has least. Deterministic."""
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    heap = [(0, number) for number in range(n_parts)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        total, number = heapq.heappop(heap)
        parts[number].append(name)
        heapq.heappush(heap, (total + sizes[name], number))
    return parts


def parse_part(text: str) -> tuple[int, int]:
    """Number and total of `I/N`.

    Raises:
        UsageError: it is something else.
    """
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    number, total = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= total:
        raise UsageError(f"A part is I/N, such as 2/8, with I from 1 to N; found {text!r}.")
    return number, total
