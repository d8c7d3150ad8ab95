"""How a child process starts: from a server that has imported torch already, without the user's script."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from landscape.execution.child import Job, main

# torch._dynamo too: the first optimizer imports it, which takes longer than torch itself.
_PRELOAD = ["torch", "torch._dynamo", "landscape.execution.child", "landscape.training", "sklearn.datasets"]
# One thread, because another number gives other bits; no current folder on the server's sys.path, because
# a user's file there may be called like a module of ours. The child gets the parent's sys.path after imports.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
}


def prepare() -> None:
    """Have the server start now, and import while this process goes on; returns at once."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOAD)
    resource_tracker.ensure_running()  # the server would start it, and that unblocks Ctrl-C
    with _without_main(), _environment(), _deaf():
        forkserver.ensure_running()


def start(job: Job) -> tuple[ForkServerProcess, Connection]:
    """Start a job in a fresh process; returns it and the end of the pipe that it reports to."""
    prepare()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    try:
        with _without_main():
            process = context.Process(target=main, args=(job, theirs), name=f"landscape {job.folder}")
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        # Or the pipe would not end with the child.
        theirs.close()
    return process, ours


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back while the server starts: it inherits that, and has no traceback to print while it imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that came meanwhile is delivered now


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide where ``__main__`` came from while a child starts.

    multiprocessing makes each child import the parent's main module again, under another name. A
    script without an ``if __name__ == "__main__"`` would then start its runs again in every child. Ours
    need nothing of it: they are given names and data.
    """
    module = sys.modules["__main__"]
    hidden = {name: getattr(module, name) for name in ("__spec__", "__file__") if hasattr(module, name)}
    module.__spec__ = None
    if "__file__" in hidden:
        del module.__file__
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(module, name, value)
