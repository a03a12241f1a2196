"""The record of a feature: all that its values follow from, as JSON, and the fingerprint over it.

    {"version": 2, "network": "dan", "options": {"classes": 7}, "output": "logits", "image": {"size": 224, ...},
     "alignment": "prepare", "view": "hflip", "precision": "bfloat16", "weights": "<sha256>"}

What has its default is left out, so that a key that comes later changes no fingerprint of before; `None` stands for what
nobody knows. Features of version 1 have no record: `abaw.store.old_records` makes one out of what they have.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

VERSION = 2
FLOAT32 = "float32"
GIVEN, PREPARED, MIXED = (
    "",
    "prepare",
    "mixed",
)  # alignments of crops: as others made them, as `abaw prepare` does, both
ALIGNMENTS = (GIVEN, PREPARED, MIXED)
# of keys that are left out, and how they are called where records are compared
DEFAULTS: Mapping[str, Any] = {
    "version": VERSION,
    "view": "plain",
    "precision": FLOAT32,
    "alignment": "given",
    "weights": "none",
    "crop": "resize",
    "crop_pct": 1.0,
}
SHOWN = 12

Record = dict[str, Any]


def fingerprint_of(record: Mapping[str, Any]) -> str:
    """sha256 over a record: equal if and only if features are comparable."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def precision_of(record: Mapping[str, Any] | None) -> str | None:
    """The precision that a feature's network computed in; None where nobody knows."""
    found = record.get("precision", FLOAT32) if record else None
    return found if isinstance(found, str) else None


def without_alignment(record: Mapping[str, Any]) -> Record:
    """The record, whatever its crops were."""
    return {**record, "alignment": None}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two records differ in, such as "precision bfloat16 there, float32 here"; nothing where both say the same.

    What one of them does not know is taken to be the same.
    """
    one, other = _flat(there), _flat(here)
    found = []
    for name in dict.fromkeys((*_ORDER, *one, *other)):
        default = DEFAULTS.get(name, "none")
        first, second = one.get(name, default), other.get(name, default)
        if first is not None and second is not None and first != second:
            found.append(f"{name} {_shown(name, first)} there, {_shown(name, second)} here")
    return found


def describe_other(
    there: Mapping[str, Any] | None, here: Mapping[str, Any] | None, found: str, fingerprint: str
) -> str:
    """What a feature that is there has other than one that is to be added; empty where they are the same.

    Args:
        there, here: their records, as far as they are known.
        found, fingerprint: their fingerprints, which differ.
    """
    if there is None or here is None:
        return f"with fingerprint {found[:SHOWN]}, this one has {fingerprint[:SHOWN]}: other weights or settings"
    told = differences(there, here)
    if len(told) == 1 and told[0].startswith("precision "):
        return f"{told[0]} (leave out --precision to go on as before)"
    return "; ".join(told)


_ORDER = ("version", "network")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values, those of the image and of the options among them."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if key in ("image", "options") and isinstance(value, Mapping):
            flat.update({str(name): inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat


def _shown(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return ("x" if name == "size" else " ").join(
            f"{one:.4g}" if isinstance(one, float) else str(one) for one in value
        )
    if name == "weights":
        return str(value)[:SHOWN]
    return "yes" if value is True else str(value)
