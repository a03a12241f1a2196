"""Where networks run."""

import torch

from abaw.errors import UsageError


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"Device {name!r} cannot be used ({reason}). Choose cpu, cuda or cuda:N.") from error
    return device
