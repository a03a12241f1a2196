"""Networks that features were made with before, told by fingerprints, also by those of version 1."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from abaw.backbones.backbone import build_network
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.records import ALIGNMENTS, FLOAT32, GIVEN, differences, precision_of
from abaw.extract.feature import Feature
from abaw.extract.precision import BFLOAT16
from abaw.store.old_records import old_fingerprint, old_record, old_spec


@dataclass
class Remaker:
    """Makes features as they were made before, whatever a name means by now.

    Attributes:
        usual: the precision of those whose precision is not known.
        untrained: random weights.
    """

    usual: str
    untrained: bool = False
    _rounded: dict[tuple[int, str], Backbone] = field(default_factory=dict)
    _old: dict[tuple[object, ...], Backbone] = field(default_factory=dict)

    def remake(self, feature: Feature, weights: Path | None, wanted: Mapping[str, Any]) -> Feature | None:
        """A feature as it was made, with the alignment of the crops as far as that is known.

        Args:
            feature: its network in float32, as its backbone is today.
            weights: the file that the network was loaded from; None where that was the default one.
            wanted: `fingerprint`, and where it is known `record`, of what was made.

        Returns:
            None if it was made with other weights or settings.
        """
        backbone, spec = feature.backbone, feature.spec
        sha256, fingerprint = backbone.weights_sha256, wanted["fingerprint"]
        for precision in (FLOAT32,) if backbone.is_float32_only else (FLOAT32, BFLOAT16):
            for alignment in ALIGNMENTS if spec.modality == "vision" else (GIVEN,):
                if spec.fingerprint(sha256, feature.view, precision, alignment) == fingerprint:
                    return replace(feature, backbone=self._in_precision(backbone, precision), alignment=alignment)
        old = old_spec(asdict(spec))
        if old is None or old_fingerprint(old, sha256, feature.view) != fingerprint:
            return None
        record = old_record(old, sha256, view=feature.view)
        if record is None or differences(record, backbone.record(spec, feature.view)):
            backbone = self._old_network(spec, weights, str(backbone.device))
            spec = backbone.spec
        precision = precision_of(wanted.get("record")) or self.usual
        return replace(feature, backbone=self._in_precision(backbone, precision), spec=spec, alignment=None)

    def _in_precision(self, backbone: Backbone, precision: str) -> Backbone:
        """The backbone in a precision, one and the same for all features that want it."""
        key = (id(backbone), precision)
        if key not in self._rounded:
            self._rounded[key] = backbone.in_precision(precision)
        return self._rounded[key]

    def _old_network(self, spec: BackboneSpec, weights: Path | None, device: str) -> Backbone:
        """The network that a name stood for in version 1."""
        was = as_it_was(get_spec(spec.name))
        key = (was, weights)
        if key not in self._old:
            self._old[key] = Backbone(build_network([was], weights, untrained=self.untrained), device)
        return self._old[key]


def as_it_was(spec: BackboneSpec) -> BackboneSpec:
    """The spec that version 1 had of a name, so that its builder makes the network of that time."""
    old = old_spec(asdict(spec))
    record = old_record(old, None) if old is not None else None
    assert old is not None and record is not None, "only names of that time have a fingerprint of that time"
    image = old["image"]
    return replace(
        spec,
        architecture=old["architecture"],
        network=record["network"],
        options=tuple(sorted(record.get("options", {}).items())),
        image=image and ImageInput(image["size"], tuple(image["mean"]), tuple(image["std"]), image["interpolation"]),
    )
