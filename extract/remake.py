"""Making features exactly as they were made before, identified by their fingerprints, including those of version 1."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from abaw.backbones.backbone import build_network
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.records import ALIGNMENTS, FLOAT32, GIVEN, GPU_DECODER, differences, fingerprint_of, precision_of
from abaw.extract.feature import Feature
from abaw.extract.precision import BFLOAT16
from abaw.store.old_records import old_fingerprint, old_record, old_spec

MADE_IN = ((FLOAT32, False), (BFLOAT16, False), (BFLOAT16, True))  # precisions, and whether the network was compiled


@dataclass
class Remaker:
    """Makes features as they were made before, even if the name of a backbone means another network today.

    Attributes:
        default_precision: for features whose precision is unknown.
        untrained: use random weights.
    """

    default_precision: str
    untrained: bool = False
    _rounded: dict[tuple[int, str, bool], Backbone] = field(default_factory=dict)
    _old: dict[tuple[object, ...], Backbone] = field(default_factory=dict)

    def remake(self, feature: Feature, weights: Path | None, attrs: Mapping[str, Any]) -> Feature | None:
        """The feature as it was made before, with the alignment of its crops if that is known.

        Args:
            feature: the feature as its backbone is today, in float32.
            weights: the file that the network was loaded from; None for the default one.
            attrs: `fingerprint`, and `record` if known, of the feature as it was made.

        Returns:
            None if it was made with other weights or settings.
        """
        backbone, spec = feature.backbone, feature.spec
        sha256, fingerprint = backbone.weights_sha256, attrs["fingerprint"]
        alignments = ALIGNMENTS if spec.modality == "vision" else (GIVEN,)
        for precision, compiled in MADE_IN[:1] if backbone.is_float32_only else MADE_IN:
            for alignment in alignments:
                made_of = spec.record(sha256, feature.view, precision, alignment, compiled)
                for decoder in ("", GPU_DECODER) if spec.modality == "vision" else ("",):
                    if fingerprint_of(made_of | ({"decoder": decoder} if decoder else {})) == fingerprint:
                        made = self._in_precision(backbone, precision, compiled)
                        return replace(feature, backbone=made, alignment=alignment, decoder=decoder)
        old = old_spec(asdict(spec))
        if old is None or old_fingerprint(old, sha256, feature.view) != fingerprint:
            return None
        record = old_record(old, sha256, view=feature.view)
        if record is None or differences(record, backbone.record(spec, feature.view)):
            backbone = self._old_network(spec, weights, str(backbone.device))
            spec = backbone.spec
        precision = precision_of(attrs.get("record")) or self.default_precision
        return replace(feature, backbone=self._in_precision(backbone, precision), spec=spec, alignment=None)

    def _in_precision(self, backbone: Backbone, precision: str, compiled: bool = False) -> Backbone:
        """The backbone in a precision, perhaps compiled; features that were made alike share one object."""
        key = (id(backbone), precision, compiled)
        if key not in self._rounded:
            self._rounded[key] = backbone.in_precision(precision, compiled)
        return self._rounded[key]

    def _old_network(self, spec: BackboneSpec, weights: Path | None, device: str) -> Backbone:
        """The network that the name meant in version 1."""
        was = as_it_was(get_spec(spec.name))
        key = (was, weights)
        if key not in self._old:
            self._old[key] = Backbone(build_network([was], weights, untrained=self.untrained), device)
        return self._old[key]


def as_it_was(spec: BackboneSpec) -> BackboneSpec:
    """The spec of version 1 for the same name, with which the builder makes the network of that time."""
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
