"""A feature to extract."""

from dataclasses import dataclass

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
        why_precision: outcome of a trial in bfloat16; empty where there was none.
    """

    name: str
    backbone: Backbone
    spec: BackboneSpec
    view: str = ""
    alignment: str | None = GIVEN
    why_precision: str = ""
