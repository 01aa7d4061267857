"""What is measured in a worker: steps of a running training loop, and peak memory."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

FEWEST_FULL_STEPS = 3


@dataclass(frozen=True)
class StepTimes:
    """Seconds of steps and of an epoch.

    Parameters
    ----------
    wall, cpu
        Of one step with a full minibatch, the median over the steps of a run.
    epoch
        Of the last epoch, with what happens at its end; None after a single epoch.
    n_steps
        Steps that the median is over.
    """

    wall: float
    cpu: float
    epoch: float | None
    n_steps: int


class StepClock:
    """Notes the time at the end of every optimiser step, in whatever training loop is running.

    From one such time to the next a whole step goes by: the loader, the copy to the device, forward,
    backward, optimiser, callbacks. Where a loop has several optimisers (MULTIVI trains an adversary
    beside the model), the one that steps first is followed.

    Parameters
    ----------
    synchronise
        Called before the time is read; waits for the device.
    """

    def __init__(self, synchronise: Callable[[], None]) -> None:
        self._synchronise = synchronise
        self._followed: object = None
        self._times: list[tuple[float, float]] = []

    def __enter__(self) -> StepClock:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._hook = register_optimizer_step_post_hook(self._stepped)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _stepped(self, optimiser: object, *_: object) -> None:
        if self._followed is None:
            self._followed = optimiser
        if optimiser is self._followed:
            self._synchronise()
            self._times.append((perf_counter(), process_time()))

    def times(self, n_cells: int, batch_size: int, n_epochs: int) -> StepTimes:
        """Leave out the start of each epoch (as warm-up) and a last minibatch that is not full."""
        n_full, n_steps = n_cells // batch_size, -(-n_cells // batch_size)
        if n_full < FEWEST_FULL_STEPS:
            raise ValueError(
                f"{n_cells} cells make {n_full} full minibatches of {batch_size}; a step is timed from "
                f"{FEWEST_FULL_STEPS} on: --cells {FEWEST_FULL_STEPS * batch_size}"
            )
        if len(self._times) != n_epochs * n_steps:
            raise RuntimeError(f"{len(self._times)} steps were seen, not {n_epochs} epochs of {n_steps}.")
        first = 2 if n_full > FEWEST_FULL_STEPS else 1
        kept = [e * n_steps + j for e in range(n_epochs) for j in range(first, n_full)]
        differences = [
            tuple(b - a for a, b in zip(self._times[i - 1], self._times[i], strict=True)) for i in kept
        ]
        epoch = None
        if n_epochs > 1:
            epoch = self._times[-1][0] - self._times[-1 - n_steps][0]
        return StepTimes(
            median(d[0] for d in differences), median(d[1] for d in differences), epoch, len(kept)
        )


@dataclass(frozen=True)
class PeakMemory:
    """Bytes.

    Parameters
    ----------
    beyond
        Peak while something ran, less what was held just before.
    before
        Held just before.
    how
        Where the numbers come from.
    """

    beyond: int
    before: int
    how: str


def peak_memory(run: Callable[[], None], accelerator: str) -> PeakMemory:
    """Run something and tell how much more memory it needed at its worst.

    On Linux the mark of the highest resident size is set back first, or a costly construction before
    would hide the peak. Elsewhere it is ``ru_maxrss``, which cannot be set back.
    """
    gc.collect()
    if accelerator == "gpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        return PeakMemory(torch.cuda.max_memory_allocated() - held, held, "torch.cuda.max_memory_allocated")
    if sys.platform != "linux":
        before = _highest_resident()
        run()
        return PeakMemory(_highest_resident() - before, before, "ru_maxrss")
    ctypes.CDLL(None).malloc_trim(0)  # what was freed must not count as held
    Path("/proc/self/clear_refs").write_text("5")
    held = _status_bytes("VmRSS")
    run()
    return PeakMemory(_status_bytes("VmHWM") - held, held, "VmHWM, set back before")


def _highest_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no line {name}.")
