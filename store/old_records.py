"""Features of version 1, whose fingerprint was computed from the whole spec, including its descriptions.

`old_specs.json` has the specs of the built-in names at that time, so that their fingerprints can be computed again,
even if a name now stands for another network. Nothing here changes any more.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from abaw.core.records import FLOAT32, VERSION, Record, differences

FILE = Path(__file__).resolve().parent / "old_specs.json"
IMPORTED, UNTRAINED = "imported", "untrained"
KNOWN_PRECISIONS = {FLOAT32, "bfloat16"}  # imports recorded other words
TIMM, TIMM_SENTENCE = "timm/", "timm "
GLOBAL_POOL, GLOBAL_POOL_VARIANT = "global_pool", "global-pool"
KEYS = ("name", "family", "output", "modality", "shape", "architecture", "weights", "image", "classes", "variant")
IMAGE_KEYS = ("size", "mean", "std", "interpolation")
# values that names with options left out, by option and last word of the family; they are still the defaults
DEFAULT_SECONDS = {("hop", "vggish"): 0.24, ("hop", "functionals"): 1.0, ("window", "functionals"): 4.0}
# names with options: the name in the file, and the options
_HOP = re.compile(r"(vggish|vggish-relu|vggish-pca)-(\d+(?:\.\d+)?)s")
_WINDOW = re.compile(r"(compare-functionals|egemaps-functionals)-(\d+(?:\.\d+)?)s-(\d+(?:\.\d+)?)s")
_LAYER = re.compile(r"(wav2vec2)-layer(\d+)")
_TIMM = re.compile(r"timm/(?P<model>[\w.]+?)(?:-(?P<output>mean|cls))?")


def old_fingerprint(spec: Mapping[str, Any], weights_sha256: str | None, view: str = "") -> str:
    """The fingerprint of version 1.

    Args:
        spec: as in a store of that time.
    """
    fixed = {key: spec[key] for key in KEYS}
    if spec.get("rate_hz"):
        fixed["rate_hz"] = spec["rate_hz"]
    text = json.dumps({"spec": fixed, "weights": weights_sha256, "view": view}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def old_specs() -> dict[str, dict[str, Any]]:
    """The specs of the built-in names, without the weights' size and licence."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def old_spec(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The spec that version 1 had for the name of a backbone, with the weights of the current spec.

    Args:
        spec: the current spec, as a dict.

    Returns:
        None if there was no such name.
    """
    name = str(spec["name"])
    spec_then = _named(name, spec)
    if spec_then is None:
        return None
    options = dict(spec.get("options") or ())
    n_classes, model = options.get("classes"), options.get("model")
    if n_classes:
        spec_then["variant"] = f"{n_classes}-class"
    elif options.get(GLOBAL_POOL):
        spec_then["variant"] = GLOBAL_POOL_VARIANT
    elif spec_then["family"] == "wav2vec2" and spec["weights"] == "file":
        spec_then["variant"] = model or "wav2vec2"
    return {**spec_then, "weights": spec["weights"], "shape": list(spec["shape"]), "classes": list(spec["classes"])}


def _named(name: str, spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The spec of a name, without its weights and what follows from them."""
    if name in old_specs():
        return dict(old_specs()[name])
    if match := _HOP.fullmatch(name):
        hop_s = float(match[2])
        return {**old_specs()[match[1]], "name": name, "rate_hz": 1 / hop_s, "variant": f"hop {hop_s:g} s"}
    if match := _WINDOW.fullmatch(name):
        window_s, hop_s = float(match[2]), float(match[3])
        variant = f"window {window_s:g} s, hop {hop_s:g} s"
        return {**old_specs()[match[1]], "name": name, "rate_hz": 1 / hop_s, "variant": variant}
    if match := _LAYER.fullmatch(name):
        layer = int(match[2])
        sentence = f"wav2vec 2.0 base, hidden states of layer {layer}"
        return {**old_specs()[match[1]], "name": name, "output": f"layer{layer}", "architecture": sentence}
    if match := _TIMM.fullmatch(name):
        return _of_timm(name, match["model"], match["output"] or "pooled", spec["image"])
    return None


def _of_timm(name: str, model: str, output: str, image: Mapping[str, Any]) -> dict[str, Any]:
    size = image["size"]
    shown = {key: image[key] for key in IMAGE_KEYS}
    shown["size"] = size if isinstance(size, int) else size[-1]  # only the width counted
    return {
        "name": name,
        "family": f"{TIMM}{model}",
        "output": output,
        "modality": "vision",
        "architecture": f"{TIMM_SENTENCE}{model}",
        "image": {**shown, "mean": list(shown["mean"]), "std": list(shown["std"])},
        "variant": "",
        "rate_hz": 0.0,
    }


def old_record(
    spec: Mapping[str, Any], weights_sha256: str | None, precisions: Iterable[str] = (), view: str = ""
) -> Record | None:
    """The record of a feature of version 1.

    Args:
        spec: as in a store of that time, or from `old_spec`.
        precisions: of its videos; empty if unknown.

    Returns:
        None if the spec is not from that time. The alignment of crops was not recorded, so it is unknown.
    """
    if not all(key in spec for key in KEYS):
        return None
    network, options = _network_of(spec)
    precision = _precision_of(spec, KNOWN_PRECISIONS.intersection(precisions))
    record: Record = {"version": VERSION, "network": network}
    if options:
        record["options"] = options
    record["output"] = spec["output"]
    if isinstance(spec["image"], Mapping):
        record["image"] = {key: spec["image"].get(key) for key in IMAGE_KEYS}
    if spec["modality"] == "vision" and spec["weights"] != IMPORTED:
        record["alignment"] = None
    if view:
        record["view"] = view
    if precision != FLOAT32:
        record["precision"] = precision
    weights = UNTRAINED if spec["weights"] == UNTRAINED else weights_sha256
    if weights is not None:
        record["weights"] = weights
    return record


def record_in(attrs: Mapping[str, Any], videos: Callable[[], Iterable[Mapping[str, Any]]]) -> Record | None:
    """The record in the attributes of a feature; for version 1 it is derived from them.

    Args:
        videos: returns the attributes of its videos.

    Returns:
        None if it cannot be derived, as for features that were made by hand.
    """
    record, spec = attrs.get("record"), attrs.get("spec")
    if isinstance(record, dict):
        return record
    if not isinstance(spec, dict) or not isinstance(attrs.get("fingerprint"), str):
        return None
    try:
        weights, view = attrs.get("weights_sha256"), str(spec.get("view", ""))
        if old_fingerprint(spec, weights, view) != attrs["fingerprint"]:
            return None  # not made by abaw
        return old_record(spec, weights, (str(video.get("precision")) for video in videos()), view)
    except (KeyError, TypeError, ValueError, AttributeError):  # foreign files may contain anything
        return None


def was_made_as(attrs: Mapping[str, Any], fingerprint: str) -> bool:
    """True if a current feature, judging by its attributes, would have had this fingerprint in version 1."""
    spec, record, weights = attrs["spec"], attrs.get("record"), attrs.get("weights_sha256")
    try:
        old, view = old_spec(spec), str(spec.get("view", ""))
        if old is None or record is None or old_fingerprint(old, weights, view) != fingerprint:
            return False
        derived = old_record(old, weights, view=view)
    except (KeyError, TypeError, ValueError, AttributeError):  # foreign files may contain anything
        return False
    return derived is not None and not differences(derived, record)


def _network_of(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Network and options, which were in descriptions then."""
    family, architecture, variant = (str(spec[key]) for key in ("family", "architecture", "variant"))
    if family == IMPORTED:
        return IMPORTED, imported_options(str(spec["name"]), spec["shape"], str(spec["modality"]))
    if architecture.startswith(TIMM_SENTENCE):
        options = {GLOBAL_POOL: True} if variant == GLOBAL_POOL_VARIANT else {}
        return TIMM + architecture.removeprefix(TIMM_SENTENCE), options
    if variant == GLOBAL_POOL_VARIANT:
        return family, {GLOBAL_POOL: True}
    if match := re.fullmatch(r"(\d+)-class", variant):
        return family, {"classes": int(match[1])}
    seconds = re.findall(r"(window|hop) ([\d.]+) s", variant)
    if seconds:
        kind = family.rpartition("-")[2]
        return family, {
            f"{name}_s": float(value) for name, value in seconds if float(value) != DEFAULT_SECONDS.get((name, kind))
        }
    return family, {"model": variant} if variant not in ("", family) else {}


def imported_options(feature: str, shape: Iterable[int], modality: str) -> dict[str, Any]:
    """Options in the record of an imported feature: its name stands for what made it."""
    options: dict[str, Any] = {"name": feature, "shape": "x".join(map(str, shape))}
    return options if modality == "vision" else {**options, "modality": modality}


def _precision_of(spec: Mapping[str, Any], precisions: set[str]) -> str | None:
    """The precision that the network computed in; some know only float32, whatever was recorded."""
    if spec["modality"] == "audio" or spec["weights"] == IMPORTED or spec["family"] == "hog":
        return FLOAT32
    return " and ".join(sorted(precisions)) or None
