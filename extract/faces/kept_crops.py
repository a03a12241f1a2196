"""Crops that are kept while features are made straight from a video: in the layout of `abaw prepare`."""

from collections.abc import Iterator
from pathlib import Path

from abaw.core.claim_files import LostClaimError
from abaw.extract.faces.detections import FaceDetector
from abaw.extract.faces.face_identity import FaceIdentity
from abaw.extract.faces.following import FaceFollower, FacesOfFrame
from abaw.extract.faces.layout import FACES, Files, Record
from abaw.extract.faces.prepare import finish_video
from abaw.media.decoders import Decoder


class KeepingFollower(FaceFollower):
    """A `FaceFollower` that writes what `abaw prepare` would write, so that `prepare` has nothing left to do.

    Args:
        data: the data folder to fill.
        file: the video file.
        video: its name.
        detector_name, identity_key: of the detector and the identity, as in the records of `prepare`.
        detector, identity, decoder: see `FaceFollower`.
    """

    def __init__(
        self,
        data: Path,
        file: Path,
        video: str,
        detector_name: str,
        identity_key: str,
        detector: FaceDetector,
        identity: FaceIdentity | None,
        decoder: Decoder,
    ) -> None:
        super().__init__(file, detector, ahead=True, identity=identity, decoder=decoder)
        self._files = Files(data, file, video)
        size_bytes = file.stat().st_size
        self._request = Record(file.name, size_bytes, 0, detector_name, 0, identity=identity_key)
        self._folder = data / FACES

    def __iter__(self) -> Iterator[FacesOfFrame]:
        """Yield the frames in order, and write the files of the video at its end.

        Raises:
            DataError: no frame can be decoded, or something that `abaw prepare` did not write is in the way.
            BusyError: another process prepares the video.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files.check_name()
        with self._files.claimed():
            self._files.complete_move()
            if self._files.is_done(self._request):
                yield from super().__iter__()
                return
            try:
                self._files.begin()
                first_s: float | None = None
                for frame in self._files.write_faces(super().__iter__()):
                    first_s = frame.time_s if first_s is None else first_s
                    yield frame
                finish_video(self._files, self._request, self, first_s)
            except LostClaimError:
                raise
            except BaseException:
                self._files.discard()
                raise
