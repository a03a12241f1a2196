"""Public checkpoints that fit the backbones: where their authors publish them, and what is at hand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from abaw.extract.backbone import list_families
from abaw.extract.spec import BackboneSpec
from abaw.extract.weights import file_in_weights_folder


@dataclass(frozen=True)
class KnownWeights:
    """A public checkpoint.

    Attributes:
        name: the file, as its authors call it.
        family: backbones that it fits.
        source: where its authors publish it.
        md5: the first digits that they publish; empty where they publish none.
    """

    name: str
    family: str
    source: str
    md5: str = ""


MAE = "https://dl.fbaipublicfiles.com/mae/pretrain"
INSIGHTFACE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"
KNOWN = (
    KnownWeights("mae_pretrain_vit_base.pth", "mae", f"{MAE}/mae_pretrain_vit_base.pth", md5="8cad7c"),
    KnownWeights("mae_pretrain_vit_large.pth", "mae-l", f"{MAE}/mae_pretrain_vit_large.pth", md5="b8b06e"),
    KnownWeights("mae_pretrain_vit_huge.pth", "mae-h", f"{MAE}/mae_pretrain_vit_huge.pth", md5="9bdbb0"),
    KnownWeights("affecnet8_*.pth", "dan", "https://github.com/yaoing/DAN"),
    KnownWeights("backbone.pth (glint360k r100)", "iresnet100", INSIGHTFACE),
    KnownWeights("backbone.pth (glint360k r50)", "iresnet50", INSIGHTFACE),
    KnownWeights("vggish-10086976.pth", "vggish", "https://github.com/harritaylor/torchvggish/releases/tag/v0.1"),
    KnownWeights("the folder of the model", "wav2vec2", "https://huggingface.co/facebook/wav2vec2-base-960h"),
    KnownWeights("EMMA checkpoint", "emma", "https://github.com/JackYFL/EMMA_CoTEX_ABAW4"),
)


@dataclass(frozen=True)
class FamilyWeights:
    """One family: its backbones, what is published for it, and the file found under $ABAW_WEIGHTS, if any."""

    backbones: tuple[str, ...]
    sources: tuple[KnownWeights, ...]
    found: Path | None
    md5_agrees: bool | None


def weights_at_hand() -> list[FamilyWeights]:
    """Every family that has weights, with its public checkpoints and the file that would be taken by default."""
    rows = []
    for family in list_families():
        specs = list(family.specs.values())
        if specs[0].weights == "none":
            continue
        found = file_in_weights_folder(specs[0])
        sources = tuple(known for known in KNOWN if known.family == specs[0].family) or _of_timm(specs[0])
        rows.append(FamilyWeights(tuple(family.specs), sources, found, _agrees(found, sources)))
    return rows


def _of_timm(spec: BackboneSpec) -> tuple[KnownWeights, ...]:
    if spec.weights != "timm":
        return ()
    model = spec.network.removeprefix("timm/")
    return (KnownWeights("model.safetensors", spec.family, f"https://huggingface.co/timm/{model}"),)


def _agrees(file: Path | None, sources: tuple[KnownWeights, ...]) -> bool | None:
    """Whether a file is one of the published ones; None where that cannot be told."""
    wanted = [known.md5 for known in sources if known.md5]
    if file is None or not wanted:
        return None
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    return any(digest.startswith(md5) for md5 in wanted)
