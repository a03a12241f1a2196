"""File systems of a limited size."""

import subprocess
from pathlib import Path


class SmallDisk:
    """A file system in memory of its own, `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")

    def remount(self, options: str) -> None:
        """Change it, as to `size=20m` or to `ro`."""
        self._mount("-o", f"remount,{options}")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.path)], check=True, capture_output=True)

    def unmount(self) -> None:
        """Take it away, whoever still uses it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
