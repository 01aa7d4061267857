"""Noise that belongs to a cell: the same for a cell whatever cells stand beside it, in any order.

Monte Carlo answers must not change when cells are subset or permuted, so the noise of a cell is a
function of its name, the sample number and a seed (SplitMix64, Steele et al. 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from multiomics_vae.errors import InputError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
BELOW_ONE = np.nextafter(np.float32(1.0), np.float32(0.0))


class CellNoise:
    """Standard normal and uniform numbers for named cells.

    Parameters
    ----------
    cell_names
        ``(B,)``.
    seed
        Another seed gives other numbers; from 0 to 2^64 − 1.

    Raises
    ------
    InputError
        If the seed is no such number.

    Examples
    --------
    >>> a = CellNoise(["x", "y"], seed=0).normal(2, 3)
    >>> b = CellNoise(["y", "x"], seed=0).normal(2, 3)
    >>> bool((a[:, 0] == b[:, 1]).all())
    True
    """

    def __init__(self, cell_names: np.ndarray | list[str], seed: int) -> None:
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
            raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}: seed=0")
        salt = int(seed).to_bytes(8, "little")
        digests = b"".join(
            hashlib.blake2b(str(name).encode(), digest_size=8, salt=salt).digest() for name in cell_names
        )
        self._keys = np.frombuffer(digests, dtype="<u8")  # (B,)

    def uniform(
        self, n_samples: int, width: int, stream: int = 0, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Uniform numbers in (0, 1): ``(n_samples, B, width)``, float64.

        Parameters
        ----------
        n_samples, width
            How many a cell. The first samples of more are the same.
        stream
            Another one gives independent numbers.
        columns
            Positions below ``width``, ``(G,)``: the numbers of these only, ``(n_samples, B, G)``.
        """
        chosen = np.arange(width) if columns is None else columns
        first = np.arange(n_samples, dtype=np.uint64)[:, None, None] * np.uint64(width)
        counters = first + chosen.astype(np.uint64) + np.uint64(stream) * np.uint64(1 << 40)  # (S, 1, G)
        with np.errstate(over="ignore"):
            bits = self._keys[None, :, None] + (counters + np.uint64(1)) * GOLDEN  # (S, B, G)
            # In place: fresh arrays of this size cost more than the arithmetic.
            for shift, factor in ((30, MIX_1), (27, MIX_2)):
                bits ^= bits >> np.uint64(shift)
                bits *= factor
            bits ^= bits >> np.uint64(31)
            bits >>= np.uint64(12)
        uniform: np.ndarray = bits.astype(np.float64)
        uniform += 0.5
        uniform *= 2.0**-52
        return uniform

    def normal(self, n_samples: int, width: int, stream: int = 0) -> Tensor:
        """Standard normal numbers: ``(n_samples, B, width)``, float32."""
        return torch.from_numpy(ndtri(self.uniform(n_samples, width, stream)).astype(np.float32))

    def choice(self, n_samples: int) -> Tensor:
        """Uniform numbers below 1 that choose a mixture component: ``(n_samples, B)``, float32."""
        uniform = self.uniform(n_samples, 1, stream=1)[..., 0].astype(np.float32)
        # float32 rounds up to 1, which would choose a component past the last one that the cell has.
        return torch.from_numpy(np.minimum(uniform, BELOW_ONE))
