"""How many heaps the C library keeps for threads."""

import ctypes
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

M_ARENA_MAX = -8  # of glibc's malloc.h
N_HEAPS = 2


def share_heaps(environment: Mapping[str, str] | None = None) -> bool:
    """Let the threads that start from now on share a few heaps, where the C library is glibc; true if that was done.

    By default glibc gives each thread a heap of its own, up to eight for each core. Memory that one thread takes and
    another frees leaves holes in all of them, which add up to hundreds of megabytes where pictures pass through threads.

    Args:
        environment: a number of heaps in it stays as it is; by default the environment of this process.
    """
    environment = os.environ if environment is None else environment
    is_set = "MALLOC_ARENA_MAX" in environment or "arena_max" in environment.get("GLIBC_TUNABLES", "")
    if is_set or not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):  # other C libraries have no such function
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # glibc alone has it
        return bool(library.mallopt(M_ARENA_MAX, N_HEAPS))
    return False
