"""A feature to extract."""

from dataclasses import dataclass

from abaw.backbones.extractor import Backbone
from abaw.backbones.spec import BackboneSpec
from abaw.core.records import GIVEN


@dataclass(frozen=True)
class Feature:
    """One feature to make: its name in the store, and the output and view of a backbone that it holds.

    `alignment` is that of the crops, None where nobody knows.
    """

    name: str
    backbone: Backbone
    spec: BackboneSpec
    view: str = ""
    alignment: str | None = GIVEN
