"""The errors a user can meet. Each message says what was wrong, what was found and what to do."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AbawError(Exception):
    """Base of all errors that `abaw` raises on purpose; the command line prints one as a sentence.

    `exit_code` is 1 when the work failed and 2 when the command was used wrongly.
    """

    exit_code = 1


class UsageError(AbawError):
    """A wrong option or an unknown name: the command has to be called differently."""

    exit_code = 2


class DataError(AbawError):
    """A file of the dataset (crop, label, video) is missing or broken."""


class StoreError(AbawError):
    """The feature store is missing, damaged, or holds something else than was asked for."""


class CheckpointError(AbawError):
    """A weights file or a run cannot be loaded."""
