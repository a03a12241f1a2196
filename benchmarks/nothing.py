"""A backbone that does nothing: benchmarks with it measure everything else."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from abaw.backbones.backbone import create_backbone, describe
from abaw.datasets.frames import FrameSource
from abaw.extract.feature import Feature
from abaw.extract.runner import Runner
from abaw.store import FeatureStore
from benchmarks.nothing_family import CORNER_PX


class Nothing(nn.Module):
    """Returns a corner of its input as the feature."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, size, size) -> `corner` (n, 768)."""
        return {"corner": images[:, :, :CORNER_PX, :CORNER_PX].flatten(1)}


def make_feature(name: str, untrained: bool = False) -> Feature:
    """The feature of a backbone, on the CPU."""
    backbone = create_backbone(name, untrained=untrained)
    return Feature(name.replace("/", "-"), backbone, backbone.spec)


def extract(feature: Feature, sources: Sequence[FrameSource], store: Path, batch_size: int) -> None:
    """Run a feature over videos into a new store, as `abaw extract` does."""
    feature_store = FeatureStore.create(store)
    feature_store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    summary = Runner(feature_store, [feature], batch_size).run(sources)
    assert summary.ok, summary
    assert summary.n_frames == sum(len(source.rows) for source in sources)
