"""Turning videos into a dataset in the layout of Aff-Wild2: face crops, sound, and a table of the faces."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from abaw.core.claim_files import BusyError, LostClaimError
from abaw.core.errors import AbawError, DataError, UsageError
from abaw.core.names import composed, is_junk
from abaw.core.progress import Reporter, Stop, Summary
from abaw.core.system_errors import in_words
from abaw.datasets.video_files import SUFFIXES
from abaw.extract.faces.detections import FaceDetector
from abaw.extract.faces.detector import DEFAULT_DETECTOR, create_detector
from abaw.extract.faces.face_identity import FaceIdentity, create_identity, identity_key
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.layout import FACES, Files, Record
from abaw.extract.waits import DETECT, WRITE, Waits, describe_shares, report_waits
from abaw.media.probe import probe_timing
from abaw.media.sound import load_sound


@dataclass(frozen=True)
class PrepareOptions:
    """Options of `abaw prepare`.

    Attributes:
        videos: video files, and folders of them.
        data: root of the dataset to fill.
        faces: number of people to keep in each video, the largest and longest seen; 0 keeps all.
        detector: see `create_detector`.
        every: full detection in every n-th frame, see `detect_pictures`; 0 takes the default of the detector.
        device: "auto" takes a GPU if there is one.
        identity: what people are told apart by, see `create_identity`; empty for their position.
    """

    videos: tuple[Path, ...]
    data: Path
    faces: int = 0
    detector: str = DEFAULT_DETECTOR
    every: int = 0
    device: str = "auto"
    identity: str = ""


def list_videos(paths: Sequence[Path]) -> list[Path]:
    """Video files among files and in folders.

    Raises:
        UsageError: a path does not exist, a file has a suffix that later stages do not read, or two files share a name.
    """
    kinds = ", ".join(SUFFIXES)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            videos = sorted(file for file in path.iterdir() if _is_video(file))
            if not videos:
                raise UsageError(f"{path} has no video files ({kinds}). Name another folder, or the files.")
            files += videos
        elif not path.exists():
            raise UsageError(f"No video {path}. Give video files, or folders of them.")
        elif not _is_video(path):
            raise UsageError(f"{path} does not end in one of {kinds}. Convert or rename it.")
        else:
            files.append(path)
    files = list({file.resolve(): file for file in files}.values())
    duplicates = [name for name, n in Counter(composed(file.stem) for file in files).items() if n > 1]
    if duplicates:
        first, second, *_ = [file for file in files if composed(file.stem) == duplicates[0]]
        raise UsageError(f"Two videos have the name {duplicates[0]!r}: {first} and {second}. Rename one of them.")
    return files


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not is_junk(file.name) and not file.is_dir()


def prepare_videos(options: PrepareOptions, reporter: Reporter) -> Summary:
    """Prepare each video that is not complete. A video is written as a whole; its errors go into the summary.

    Raises:
        AbawError: no videos, an unknown detector, or a folder that cannot be written to.
    """
    files = list_videos(options.videos)
    try:
        (options.data / FACES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{options.data} cannot be written to ({error.strerror}). Name another with --data.") from error
    summary, detector = Summary(), create_detector(options.detector, options.device)
    identity = create_identity(options.identity, options.device)
    pending, waits = _pending(files, options, summary), Waits()
    reporter.start("prepare", sum(n_frames for _, _, n_frames in pending), "frames")
    busy: list[tuple[Files, Record]] = []
    work = partial(_prepare, detector=detector, identity=identity, reporter=reporter, waits=waits)
    for video, request in chain([(video, request) for video, request, _ in pending], busy):
        try:
            record = _take(video, request, work)
        except KeyboardInterrupt:
            summary.stopped = Stop.interrupted()
            break
        except BusyError as error:
            if video.video not in summary.failed:
                busy.append((video, request))  # another process may have finished it at the end
            summary.failed[video.video] = str(error)
        except LostClaimError as error:
            summary.stopped = Stop.of_claim(error)
            break
        except OSError as error:
            summary.stopped = Stop.of_disk(error, f"{video.video} into {options.data}")
            if summary.stopped:
                break
            summary.failed[video.video] = in_words(error)
        except UsageError:
            raise
        except Exception as error:  # an error in one video must not stop the others
            summary.failed[video.video] = in_words(error)
        else:
            _finished(summary, video, record)
    reporter.finish()
    summary.waited_s = waits.seconds
    report_waits(summary.waited_s, reporter)
    return summary


def _finished(summary: Summary, video: Files, record: Record | None) -> None:
    summary.failed.pop(video.video, None)
    summary.people[video.video] = record.people if record is not None else video.people()
    if record is None:
        summary.skipped.append(video.video)
        return
    summary.done.append(video.video)
    summary.n_frames += record.n_frames
    summary.warnings += [f"{video.video}: {note}" for note in record.notes]


def _take(video: Files, request: Record, work: Callable[[Files, Record], Record]) -> Record | None:
    """Prepare a video under a claim; None if another process has done it since."""
    with video.claimed():
        try:
            video.complete_move()
            return None if video.is_done(request) else work(video, request)
        except LostClaimError:
            raise
        except BaseException:
            video.discard()
            raise


def _pending(files: list[Path], options: PrepareOptions, summary: Summary) -> list[tuple[Files, Record, int]]:
    """Videos that are not complete: their files, the requested record, and the number of frames, 0 if unknown."""
    pending = []
    for file in files:
        video = Files(options.data, file)
        request = Record(
            *(file.name, file.stat().st_size, options.faces, options.detector, options.every),
            identity=identity_key(options.identity),
        )
        try:
            video.check_name()
            if video.is_done(request):
                video.drop_dead_claim()
                summary.skipped.append(video.video)
                summary.people[video.video] = video.people()
            else:
                pending.append((video, request, _count_frames(file)))
        except AbawError as error:
            summary.failed[video.video] = str(error)
        except OSError as error:
            summary.failed[video.video] = in_words(error)
    return pending


def _count_frames(file: Path) -> int:
    """Number of frames, for the progress bar; 0 if the file is broken, which is reported when it is read."""
    try:
        return probe_timing(file).n_frames
    except DataError:
        return 0


def _prepare(
    video: Files,
    request: Record,
    detector: FaceDetector,
    identity: FaceIdentity | None,
    reporter: Reporter,
    waits: Waits,
) -> Record:
    video.begin()
    follower = FaceFollower(video.source, detector, request.every, waits=waits, identity=identity)
    first_s: float | None = None
    for frame in waits.each(WRITE, video.write_faces(waits.each(DETECT, follower))):
        first_s = frame.time_s if first_s is None else first_s
        reporter.advance(1, f"{video.video}, {describe_shares(waits.seconds)}")
    return finish_video(video, request, follower, first_s)


def finish_video(video: Files, request: Record, follower: FaceFollower, first_s: float | None) -> Record:
    """Write the sound of a video whose faces were written, and move all of its files into place.

    Args:
        follower: has followed the video to its end.
        first_s: when its first picture is shown.

    Raises:
        DataError: something that `abaw prepare` did not write is in the way.
    """
    notes = list(follower.notes)
    sound = load_sound(video.source)
    if sound is not None and len(sound.waveform):
        video.write_sound(sound, first_s or 0.0)
    notes += sound.notes if sound is not None else []
    names = follower.names(video.video, request.faces)
    if not names:
        notes.append("no face was found in it")
    cuts = tuple(number + 1 for number in follower.cuts)
    return video.finish(names, replace(request, n_frames=follower.n_frames, notes=tuple(notes), cuts=cuts))
