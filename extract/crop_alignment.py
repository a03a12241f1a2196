"""The alignment of the crops of a dataset: made by `abaw prepare`, made by others, cut out by boxes, or a mixture."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from abaw.core.errors import StoreError
from abaw.core.records import BOXED, GIVEN, MIXED, PREPARED
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import WHOLE
from abaw.store import FeatureStore


@dataclass(frozen=True)
class Alignments:
    """How crops were aligned. Pictures that are not crops of faces do not count.

    Attributes:
        by_video: see `abaw.core.records`.
    """

    by_video: Mapping[str, str]

    @classmethod
    def of(cls, dataset: Dataset) -> "Alignments":
        """The alignments in a dataset; reads only the records of `abaw prepare`."""
        alignments = {video.name: dataset.open(video).alignment for video in dataset.videos}
        return cls({name: alignment for name, alignment in alignments.items() if alignment != WHOLE})

    @property
    def alignment(self) -> str:
        """The alignment for the record of a feature of these crops, see `abaw.core.records`."""
        return alignment_of(self.by_video.values())

    def note(self) -> str:
        """A sentence if there are crops of several kinds; else empty."""
        if self.alignment != MIXED:
            return ""
        counts = Counter(self.by_video.values())
        if BOXED in counts:
            return (
                f"Faces of {counts[BOXED]} videos are cut out by boxes, those of {len(self.by_video) - counts[BOXED]} are aligned by "
                "landmarks. They look different to a network; keep them apart if you can."
            )
        return (
            f"The data has crops of two alignments: those of {counts[PREPARED]} videos were made by `abaw prepare`, those of "
            f"{counts[GIVEN]} were not. They look different to a network; keep them apart if you can."
        )

    def check_old(self, store: FeatureStore, feature: str) -> str:
        """Check that a feature whose alignment was not recorded fits these crops, by the videos that it has.

        Returns:
            A note if none of its videos is here, so that the alignment stays unknown; else empty.

        Raises:
            StoreError: it was made of crops of another alignment.
        """
        record = store.feature_record(feature)
        if record is None or record.get("alignment", GIVEN) is not None:
            return ""
        stored = store.videos(feature)
        known = [alignment for name, alignment in self.by_video.items() if name in stored]
        if not known:
            unknown = stored and self.alignment != GIVEN
            return f"It is unknown whether feature {feature!r} was made of crops of `abaw prepare`." if unknown else ""
        stored_alignment = alignment_of(known)
        if stored_alignment != self.alignment:
            raise StoreError(
                f"Feature {feature!r} in {store.path} was made differently: alignment {stored_alignment or 'given'} there, "
                f"{self.alignment or 'given'} here. Keep both by naming this one, as in `--backbone NEWNAME=...`, or delete "
                f"{store.path}/features/{feature} to replace it."
            )
        return ""


def alignment_of(alignments: Iterable[str]) -> str:
    """The alignment of several videos together."""
    kinds = set(alignments)
    return MIXED if len(kinds) > 1 else next(iter(kinds), GIVEN)
