"""The end of zarr's thread, where zarr itself would end a program with a traceback.

zarr runs an event loop in a thread of its own, and at the end of a program it closes the loop .2 s after it was told to
stop: an error where the machine is too busy for that, and where no thread could be started for it.
"""

from zarr.core import sync

STOP_S = 10.0  # a loop that has not stopped then is left to the end of the process


def end_zarr_thread() -> None:
    """Stop zarr's loop and its thread, so that nothing of them is left for zarr to close. Called at the end of a program."""
    loop, thread = sync.loop[0], sync.iothread[0]
    sync.loop[0] = sync.iothread[0] = None
    if loop is None or loop.is_closed():
        return
    if thread is not None and thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_S)
    if not loop.is_running():
        loop.close()
