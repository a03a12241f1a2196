"""Of which alignment the crops of a dataset are: those of `abaw prepare`, those that others made, or both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from abaw.core.errors import StoreError
from abaw.core.records import GIVEN, MIXED, PREPARED
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import WHOLE
from abaw.store import FeatureStore


@dataclass(frozen=True)
class Alignments:
    """Which of the videos with crops `abaw prepare` made; clips and images without a time axis have none.

    Attributes:
        prepared: by the video's name, whether it did.
    """

    prepared: Mapping[str, bool]

    @classmethod
    def of(cls, dataset: Dataset) -> "Alignments":
        """Those of a dataset; only the records of `abaw prepare` are opened."""
        alignments = {video.name: dataset.open(video).alignment for video in dataset.videos}
        return cls({name: alignment == PREPARED for name, alignment in alignments.items() if alignment != WHOLE})

    @property
    def alignment(self) -> str:
        """What the record of a feature of these crops says, see `abaw.core.records`."""
        return alignment_of(self.prepared.values())

    def note(self) -> str:
        """A sentence where there are both kinds; else empty."""
        if self.alignment != MIXED:
            return ""
        n_prepared = sum(self.prepared.values())
        return (
            f"Crops of two alignments lie here: those of {n_prepared} videos are of `abaw prepare`, those of "
            f"{len(self.prepared) - n_prepared} are not. Networks see them differently; keep them apart where you can."
        )

    def check_old(self, store: FeatureStore, feature: str) -> str:
        """Hold a feature of a version that told no alignments apart against the crops, by the videos that it has.

        Returns:
            A note where none of its videos is here, so that nobody can tell; else empty.

        Raises:
            StoreError: it is of crops of another alignment.
        """
        record = store.feature_record(feature)
        if record is None or record.get("alignment", GIVEN) is not None:
            return ""
        stored = store.videos(feature)
        known = [prepared for name, prepared in self.prepared.items() if name in stored]
        if not known:
            unknown = stored and self.alignment != GIVEN
            return f"Nobody can tell whether feature {feature!r} is of crops of `abaw prepare`." if unknown else ""
        there = alignment_of(known)
        if there != self.alignment:
            raise StoreError(
                f"Feature {feature!r} in {store.path} was made otherwise: alignment {there or 'given'} there, "
                f"{self.alignment or 'given'} here. Keep both by naming this one, as in `--backbone NEWNAME=...`, or delete "
                f"{store.path}/features/{feature} to replace it."
            )
        return ""


def alignment_of(prepared: Iterable[bool]) -> str:
    """The alignment of videos, by whether `abaw prepare` made the crops of each."""
    kinds = set(prepared)
    if len(kinds) == 2:
        return MIXED
    return PREPARED if True in kinds else GIVEN
