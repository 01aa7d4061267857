"""Processes that hold one model each and wait, so that the contenders can take turns undisturbed."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


class WorkerError(RuntimeError):
    """Something went wrong in a worker; the message is its last line, the traceback its notes."""


@dataclass(frozen=True)
class _Failed:
    summary: str
    trace: str


class Worker:
    """An object in a fresh process; its methods are called by name, one at a time.

    A fresh process for every model keeps the state of the allocator, of the optimisers and of the thread
    pools of one out of the measurements of the other. A waiting worker uses no processor time.

    Parameters
    ----------
    make
        Makes the object there, from the accelerator; must be importable by name.
    accelerator
        ``"cpu"`` or ``"gpu"``.
    threads
        Of torch there. ``OMP_NUM_THREADS`` is inherited and must be set before.
    """

    def __init__(self, make: Callable[[str], object], accelerator: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, accelerator, threads), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._pipe.close()
            self._process.join(timeout=20)
        if self._process.is_alive():
            self._process.terminate()

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the object and wait for its answer.

        Raises
        ------
        WorkerError
            If it raised, or if the process died.
        """
        try:
            self._pipe.send((method, arguments))
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            self._process.join(timeout=20)
            raise WorkerError(
                f"the worker died in {method}, exit code {self._process.exitcode} (-9: out of memory?)"
            ) from error
        if isinstance(answer, _Failed):
            problem = WorkerError(answer.summary)
            problem.add_note(answer.trace)
            raise problem
        return answer


def _serve(pipe: Connection, make: Callable[[str], object], accelerator: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    served = make(accelerator)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = getattr(served, method)(*arguments)
        except Exception as error:  # handed to the caller, who raises it again
            answer = _Failed(f"{type(error).__name__}: {error}", traceback.format_exc())
        pipe.send(answer)
