"""Which backbones a weights file fits."""

from pathlib import Path

from abaw.backbones.backbone import create_backbone
from abaw.backbones.weights import identify
from abaw.core.errors import CheckpointError


def find_fitting(file: Path) -> list[tuple[str, str, str]]:
    """Backbones that a weights file fits, best first: name, fingerprint of the feature, and notes on the conversion.

    Raises:
        CheckpointError: the file cannot be read or fits no backbone.
    """
    names = identify(file)
    if not names:
        raise CheckpointError(
            f"{file} fits no backbone of `abaw list backbones`. For a model of timm, extract with "
            f"`--backbone timm/<model>:{file}`."
        )
    fitting = []
    for name in names:
        backbone = create_backbone(name, file)
        fitting.append((name, backbone.fingerprint(backbone.spec), "; ".join(backbone.notes) or "-"))
    return fitting
