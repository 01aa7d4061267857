"""What the processes of one training run tell one another; alone, a process is told its own words."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

Value = TypeVar("Value")


@rank_zero_only
def say(text: str) -> None:
    """Print in the first process only, also before the processes have met."""
    print(text)


def are_several() -> bool:
    """Whether this process trains together with others, now."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(value: Value) -> list[Value]:
    """Every process's value, in the order of their ranks; all must call it.

    Parameters
    ----------
    value
        Small: it is copied to every process.

    Examples
    --------
    >>> gather(3.0)
    [3.0]
    """
    if not are_several():
        return [value]
    values: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return [each for each in values if each is not None]


def in_any(flag: Tensor) -> bool:
    """Whether a flag is up in any process; all must call it.

    Parameters
    ----------
    flag
        A boolean scalar, on the device on which the process trains.
    """
    if not are_several():
        return bool(flag)
    raised = flag.to(torch.int32)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def mean_norms(norms: list[float]) -> list[float]:
    """Norms of a mean of gradients, from the norms of every process's own part of it.

    The parts belong to different cells, so their squares add up; the mean divides by the number of processes.
    """
    everyone = gather(norms)
    return [float(sum(each[i] ** 2 for each in everyone)) ** 0.5 / len(everyone) for i in range(len(norms))]
