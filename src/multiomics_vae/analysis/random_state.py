"""Borrow the global random generators, and give them back as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def borrowed_random_state(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python inside, for code that draws from their global generators (Pyro).

    Only the processor's generator of torch is seeded: nothing inside may draw on another device.

    Parameters
    ----------
    seed
        From 0 to 2^32 − 1.

    Examples
    --------
    >>> with borrowed_random_state(0):
    ...     a = torch.rand(())
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global one is meant)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
