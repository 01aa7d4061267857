"""Subsets of the modalities as rows of a mask, and which of them a cell can use."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.fusion.base import Subset


def membership_of(subsets: tuple[Subset, ...], n_modalities: int) -> Tensor:
    """Which modality belongs to which of E subsets: ``(E, M)``, bool.

    Parameters
    ----------
    subsets, n_modalities
        E subsets of the modalities 0 … M − 1.

    Examples
    --------
    >>> membership_of(((0,), (0, 1)), 2).tolist()
    [[True, False], [True, True]]
    """
    rows = [[modality in subset for modality in range(n_modalities)] for subset in subsets]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(subsets), n_modalities)


def usable_subsets(available: Tensor, membership: Tensor) -> Tensor:
    """Whether all modalities of a subset are available in a cell: ``(E, B)``, bool.

    Parameters
    ----------
    available
        ``(B, M)``, bool.
    membership
        ``(E, M)``, bool, of `membership_of`.

    Examples
    --------
    >>> usable_subsets(torch.tensor([[True, False]]), membership_of(((0,), (0, 1)), 2)).tolist()
    [[True], [False]]
    """
    return (available.T.unsqueeze(0) | ~membership.unsqueeze(-1)).all(1)  # (E, M, B) -> (E, B)
