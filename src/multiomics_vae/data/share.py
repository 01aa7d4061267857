"""Which cells of a training step are whose, when several processes share every step.

All processes walk through the same order of cells in steps of ``n_processes · batch_size`` and each
takes its own part of a step. Random numbers are drawn for the whole step and cut the same way, so a
step of several processes is the step of one process with their minibatches put together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """A part of the cells of a step.

    Parameters
    ----------
    first
        Position of the first own cell among the cells of the step.
    n_own
        Own cells. With 0 the minibatch still holds one cell, which must count for nothing: every
        process has to take part in every step.
    n_total
        Cells of the step, over all processes.
    """

    first: int
    n_own: int
    n_total: int

    @property
    def rows(self) -> slice:
        """The cells of the minibatch among those of the step, a spare cell included."""
        return slice(self.first, self.first + max(self.n_own, 1))


@dataclass(frozen=True)
class Process:
    """One of the processes that train a model together.

    Parameters
    ----------
    rank
        Which one, from 0.
    n_processes
        How many there are, over all machines.

    Examples
    --------
    >>> Process(rank=1, n_processes=2).share(5)
    Share(first=2, n_own=3, n_total=5)
    """

    rank: int = 0
    n_processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def share(self, n_total: int) -> Share:
        """Cut a step of ``n_total`` cells into parts as equal as can be, and take the own one."""
        first = n_total * self.rank // self.n_processes
        n_own = n_total * (self.rank + 1) // self.n_processes - first
        return Share(first if n_own else 0, n_own, n_total)

    def loss_scale(self, share: Share) -> float:
        """What an average over the own cells is multiplied by, so that the processes' mean is the step's."""
        return share.n_own * self.n_processes / share.n_total


ALONE = Process()


@dataclass(frozen=True)
class StepNoise:
    """Random numbers for a step: the same for a cell whichever process has it.

    Parameters
    ----------
    generator
        In the same state in every process.
    share
        The own cells.
    """

    generator: torch.Generator
    share: Share

    def like(self, mean: Tensor) -> Tensor:
        """Standard normal numbers for means of shape ``(C, B, K)``."""
        shape = (mean.shape[0], self.share.n_total, mean.shape[2])
        noise = torch.randn(shape, generator=self.generator, device=mean.device, dtype=mean.dtype)
        return noise[:, self.share.rows]  # (C, B, K)

    def uniform(self, *width: int) -> Tensor:
        """Uniform numbers: ``(B, *width)``."""
        shape = (self.share.n_total, *width)
        return torch.rand(shape, generator=self.generator, device=self.generator.device)[self.share.rows]
