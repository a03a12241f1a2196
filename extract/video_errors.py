"""What an error while a video was processed means for the rest of an extraction."""

import torch

from abaw.core.claim_files import LostClaimError
from abaw.core.progress import Stop, Summary
from abaw.core.system_errors import in_words


def record_error(summary: Summary, video: str, error: Exception, store: object, what: str) -> None:
    """Put an error into a summary: as the failure of the video, or as the reason to stop.

    Args:
        store: where the features go.
        what: of the video, such as "sound".
    """
    if isinstance(error, LostClaimError):
        summary.stopped = Stop.of_claim(error)
    elif isinstance(error, torch.OutOfMemoryError):
        summary.stopped = Stop(
            "out of memory",
            f"no memory left on the device at the {what} of {video}; free it, or use --device cpu ({error})",
        )
    elif isinstance(error, torch.AcceleratorError):
        summary.stopped = Stop.of_device(error)
    elif isinstance(error, OSError):
        if stop := Stop.of_disk(error, f"{video} into {store}"):
            summary.stopped = stop
        else:
            summary.failed[video] = in_words(error)
    else:  # an error in one video must not stop the others
        summary.failed[video] = str(error) or type(error).__name__
