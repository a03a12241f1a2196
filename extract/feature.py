"""A feature to extract."""

from dataclasses import dataclass
from typing import Any

from abaw.backbones.backbone import describe
from abaw.backbones.extractor import Backbone
from abaw.backbones.spec import BackboneSpec
from abaw.core.records import GIVEN


@dataclass(frozen=True)
class Feature:
    """A feature to make.

    Attributes:
        name: in the store.
        backbone, spec, view: the network, the output of it that the feature holds, and the view of the images.
        alignment: alignment of the crops, see `abaw.core.records`; None if it is unknown.
        decoder: of the pictures, as in the record; empty for that of the processor, and for sound.
        why_precision: outcome of a trial in bfloat16; empty where there was none.
    """

    name: str
    backbone: Backbone
    spec: BackboneSpec
    view: str = ""
    alignment: str | None = GIVEN
    why_precision: str = ""
    decoder: str = ""

    def describe(self) -> dict[str, Any]:
        """How it is made, for the store: the arguments of `FeatureStore.add_feature`."""
        return describe(self.backbone, self.spec, self.view, self.alignment, self.decoder)
