"""The record of a feature: everything that determines its values, as JSON. The fingerprint is its hash.

    {"version": 2, "network": "dan", "options": {"classes": 7}, "output": "logits", "image": {"size": 224, ...},
     "alignment": "prepare", "view": "hflip", "precision": "bfloat16", "compiled": true, "decoder": "gpu",
     "weights": "<sha256>"}

Defaults are left out, so that a new key does not change old fingerprints; `None` means unknown. Features of version 1 have
no record: `abaw.store.old_records` derives one from their attributes.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

VERSION = 2
FLOAT32 = "float32"
# alignments of crops: by another program, by `abaw prepare`, squares around boxes of a table, several of them
GIVEN, PREPARED, BOXED, MIXED = "", "prepare", "box", "mixed"
ALIGNMENTS = (GIVEN, PREPARED, BOXED, MIXED)
GPU_DECODER = "gpu"  # of pictures; that of the processor is left out
# values of keys that are left out, as a comparison shows them
DEFAULTS: Mapping[str, Any] = {
    "version": VERSION,
    "view": "plain",
    "precision": FLOAT32,
    "compiled": "no",
    "alignment": "given",
    "decoder": "cpu",
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
    """The precision that a feature's network computed in; None if unknown."""
    precision = record.get("precision", FLOAT32) if record else None
    return precision if isinstance(precision, str) else None


def without_alignment(record: Mapping[str, Any]) -> Record:
    """The record with an unknown alignment."""
    return {**record, "alignment": None}


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The differences of two records, such as "precision bfloat16 there, float32 here".

    A value that is unknown in one of them counts as equal.
    """
    first_values, second_values = _flat(stored), _flat(current)
    different = []
    for name in dict.fromkeys((*_ORDER, *first_values, *second_values)):
        default = DEFAULTS.get(name, "none")
        first, second = first_values.get(name, default), second_values.get(name, default)
        if first is not None and second is not None and first != second:
            different.append(f"{name} {_shown(name, first)} there, {_shown(name, second)} here")
    return different


def describe_other(
    stored: Mapping[str, Any] | None, current: Mapping[str, Any] | None, other_fingerprint: str, fingerprint: str
) -> str:
    """How an existing feature differs from one that is to be added; empty if they do not differ.

    Args:
        stored, current: their records; None if unknown.
        other_fingerprint, fingerprint: their fingerprints, which differ.
    """
    if stored is None or current is None:
        return f"with fingerprint {other_fingerprint[:SHOWN]}, this one has {fingerprint[:SHOWN]}: other weights or settings"
    different = differences(stored, current)
    if len(different) == 1 and different[0].startswith("precision "):
        return f"{different[0]} (leave out --precision to continue as before)"
    if len(different) == 1 and different[0].startswith("compiled "):
        return f"{different[0]} ({'add' if stored.get('compiled') else 'leave out'} --compile to continue as before)"
    if len(different) == 1 and different[0].startswith("decoder "):
        return f"{different[0]} (leave out --decoder to continue as before)"
    return "; ".join(different)


_ORDER = ("version", "network")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values, with those of the image and the options on the same level."""
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
