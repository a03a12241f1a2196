"""Scheduler and worker of dask without the web server that each of them starts, for anybody to read, by default."""

from typing import Any

from distributed import Scheduler, Worker


class PagelessScheduler(Scheduler):
    """A scheduler without web pages."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none."""


class PagelessWorker(Worker):
    """A worker without web pages."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none."""
