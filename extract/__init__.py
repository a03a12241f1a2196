"""Features of frames and sound: backbones, and the runner that fills the store."""

from abaw.extract.backbone import Backbone, BackboneSpec, create_backbone, get_spec, list_specs, register

__all__ = ["Backbone", "BackboneSpec", "create_backbone", "get_spec", "list_specs", "register"]
