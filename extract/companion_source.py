"""What accompanies the pictures of a video, such as its sound or its transcript: whose it is, and how it counts."""

from abaw.datasets.frames import FrameSource
from abaw.extract.faces.followed_videos import FollowedFrames


class CompanionSource:
    """What belongs to a whole recording, of which `frames` may be one person.

    Attributes:
        frames: gives name, clock, and when each row is shown.
    """

    frames: FrameSource

    @property
    def video(self) -> str:
        """Name of the video, which may have several people with one sound or transcript."""
        return (self.frames.video if isinstance(self.frames, FollowedFrames) else "") or self.frames.name

    @property
    def n_frames(self) -> int:
        """For progress: frames of the video, counted with the first of its people."""
        people = self.frames.all_people if isinstance(self.frames, FollowedFrames) else None
        return len(self.frames.rows) if not people or people[0] == self.frames.name else 0
