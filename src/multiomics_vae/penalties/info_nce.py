"""Contrastive alignment by InfoNCE."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from multiomics_vae.penalties.pairs import PairPenalty, recognition_cost


class InfoNCE(PairPenalty):
    """Let a cell be recognised, from its mean in one modality, among the cells seen in the other.

    s_ij = cos(μ_a(i), μ_b(j)) / t over the n cells of the minibatch that have both modalities a and b, and
    for cell i the mean of −log softmax_j(s_ij)_i and −log softmax_j(s_ji)_i (van den Oord et al. 2018,
    symmetric as in CLIP, Radford et al. 2021), in nats: log n where all means look alike.

    The cosine leaves lengths alone: the mean given a poorer modality is rightly nearer to the prior.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        Ignored.

    Examples
    --------
    >>> InfoNCE(n_latent=10, n_modalities=2, n_batches=1).temperature
    0.1
    """

    name: ClassVar[str] = "info_nce"
    temperature: ClassVar[float] = 0.1

    def each(self, first: Tensor, second: Tensor) -> Tensor:
        directions = functional.normalize(first, dim=-1), functional.normalize(second, dim=-1)  # (n, K)
        return recognition_cost(directions[0] @ directions[1].T / self.temperature)  # (n,)
