"""Pins the fingerprints of the built-in backbones: `python -m abaw.tests.pin_fingerprints [--replace]`.

New names are added. A fingerprint that has changed is replaced by --replace alone: it makes the features that people
have under this name stale, in every store that they have.
"""

import json
import sys
from pathlib import Path

from abaw.backbones.registry import get_spec, list_specs

FILE = Path(__file__).resolve().parent / "data" / "fingerprints.json"
WEIGHTS = "0" * 64  # stands for the sha256 of weights
# names that carry options, which are in no list
MORE = (
    *("vggish-0.96s", "vggish-relu-0.5s", "compare-functionals-2s-0.5s", "egemaps-functionals-4s-1s"),
    *("wav2vec2-layer6", "wav2vec2-last4", "timm/resnet18", "timm/resnet18+center", "timm/vit_tiny_patch16_224-mean"),
    *("timm/vit_small_patch14_dinov2@224-mean", "vit-tiny-cls@112x96", "timm/vit_base_patch32_clip_224.openai"),
)


def fingerprints() -> dict[str, str]:
    """The fingerprint of every built-in name, of given crops, in float32."""
    names = [spec.name for spec in list_specs()]
    return {name: get_spec(name).fingerprint(WEIGHTS) for name in (*names, *MORE)}


def main(replace: bool) -> None:
    """Add what is new, and what has changed where that is wanted."""
    pinned = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = fingerprints()
    changed = [name for name in pinned if name in found and pinned[name] != found[name]]
    if changed and not replace:
        sys.exit(f"These have changed: {', '.join(changed)}. Features of theirs become stale; --replace if it must be.")
    FILE.write_text(json.dumps(pinned | found, indent=1) + "\n")


if __name__ == "__main__":
    main("--replace" in sys.argv[1:])
