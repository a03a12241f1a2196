"""A backbone that does nothing, so that all that is measured is what happens around it."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from abaw.backbones.backbone import BackboneSpec, ImageInput, create_backbone, describe, register
from abaw.extract.feature import Feature
from abaw.extract.reader import Source
from abaw.extract.runner import Runner
from abaw.store import FeatureStore

WIDTH = 768
CORNER_PX = 16  # 16 x 16 pixels of 3 channels are as many values as a ViT-B gives


class Nothing(nn.Module):
    """Gives a corner of its input as the feature."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, size, size) -> `corner` (n, 768)."""
        return {"corner": images[:, :, :CORNER_PX, :CORNER_PX].flatten(1)}


def register_nothing(size_px: int) -> str:
    """Register the backbone for an input size; gives its name."""
    name = f"nothing-{size_px}"
    spec = BackboneSpec(
        name=name,
        family=name,
        output="corner",
        modality="vision",
        shape=(WIDTH,),
        architecture="none",
        weights="none",
        image=ImageInput(size_px),
    )

    @register(spec)
    def build(specs: Sequence[BackboneSpec], file: Path | None) -> nn.Module:
        return Nothing()

    return name


def make_feature(name: str, untrained: bool = False) -> Feature:
    """The feature of a backbone, on the CPU."""
    backbone = create_backbone(name, untrained=untrained)
    return Feature(name.replace("/", "-"), backbone, backbone.spec)


def extract(feature: Feature, sources: Sequence[Source], store: Path, batch_size: int) -> None:
    """Run a feature over videos into a new store, as `abaw extract` does."""
    opened = FeatureStore.create(store)
    opened.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    summary = Runner(opened, [feature], batch_size).run(sources)
    assert summary.ok, summary
    assert summary.n_frames == sum(len(source.crops.names) for source in sources)
