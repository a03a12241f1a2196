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
        StoreError: another driver that is alive has claimed some of them, or the store must not be written.
    """
    name = f"claim-{uuid.uuid4().hex}.json"
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
        with suppress(OSError):  # the store may be gone by now, or not be written any more; this process ends anyway
            store.notes.drop(name)


def _beat(store: FeatureStore, name: str, claim: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        try:
            store.notes.write(name, json.dumps({**claim, "beat": time.time()}))
        except Exception:
            continue


def _check_others(store: FeatureStore, name: str, claim: dict[str, Any]) -> None:
    """Give way to an earlier claim, and delete those of dead drivers."""
    for other_name, text in store.notes.read().items():
        if other_name == name or not (other_name.startswith("claim-") and other_name.endswith(".json")):
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
        # another process may have the number of a dead one by now, and a dead one that nobody asked after is a zombie
        is_same = abs(process.create_time() - float(claim["began"])) < 1
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there, and of somebody else
        return True


def _overlap(one: str, other: str) -> bool:
    """Parts overlap unless they are different ones of the same division."""
    if not one or not other:
        return True
    (number, total), (other_number, other_total) = parse_part(one), parse_part(other)
    return total != other_total or number == other_number
