"""Claims: notes in a store that say who is filling it, so that two drivers do not do the same work at the same time."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from abaw.core.errors import StoreError
from abaw.core.parts import parse_part
from abaw.store import FeatureStore
from abaw.store.location import room_for

BEAT_S = 20.0
DEAD_S = 120.0  # a claim from another machine that was not renewed for this long belongs to a driver that died


@contextmanager
def claimed(store: FeatureStore, features: Sequence[str], part: str) -> Iterator[None]:
    """Claim features of a store (or a part of their videos) for as long as the block runs.

    Raises:
        StoreError: another live driver has claimed some of them, or the store is not writable.
    """
    name = f"claim-{uuid.uuid4().hex}"
    claim = {
        "features": list(features),
        "part": part,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "began": psutil.Process().create_time(),
        "claimed": time.time(),
    }
    with room_for(store.path):
        store.notes.write(name, json.dumps({**claim, "beat": time.time()}))
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, name, claim, stop), daemon=True)
    try:
        _check_others(store, name, claim)
        beating.start()
        yield
    finally:
        stop.set()
        if beating.ident is not None:
            beating.join()
        with suppress(OSError):  # the store may be gone or read-only by now; this process ends anyway
            store.notes.drop(name)


def _beat(store: FeatureStore, name: str, claim: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        try:
            store.notes.write(name, json.dumps({**claim, "beat": time.time()}))
        except Exception:
            continue


def _check_others(store: FeatureStore, name: str, claim: dict[str, Any]) -> None:
    """Yield to an earlier claim, and delete claims of dead drivers."""
    for other_name, text in store.notes.read().items():
        if other_name == name or not other_name.startswith("claim-") or other_name.endswith(".partial"):
            continue
        try:
            other = json.loads(text)
            is_dead = not _is_alive(other)
            shared = [feature for feature in other["features"] if feature in claim["features"]]
            collides = bool(shared) and _overlap(other["part"], claim["part"])
            is_earlier = (other["claimed"], other_name) < (claim["claimed"], name)
        except Exception:  # not a claim that abaw wrote
            is_dead, collides = True, False
        if is_dead:
            store.notes.drop(other_name)
        elif collides and is_earlier:
            part = f" part {other['part']}" if other["part"] else ""
            raise StoreError(
                f"Another command is writing {', '.join(shared)}{part} in {store.path}: process {other['process']} on "
                f"{other['host']}. Wait for it, or stop it and run this again."
            )


def _is_alive(claim: dict[str, Any]) -> bool:
    if claim["host"] != socket.gethostname():
        return time.time() - float(claim["beat"]) < DEAD_S
    try:
        process = psutil.Process(int(claim["process"]))
        # the number of a dead process may be in use again, and a dead child that was not waited for is a zombie
        is_same = abs(process.create_time() - float(claim["began"])) < 1
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it exists but belongs to another user
        return True


def _overlap(part: str, other_part: str) -> bool:
    """True unless they are different parts of the same division."""
    if not part or not other_part:
        return True
    (number, total), (other_number, other_total) = parse_part(part), parse_part(other_part)
    return total != other_total or number == other_number
