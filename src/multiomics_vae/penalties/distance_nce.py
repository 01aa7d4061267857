"""Contrastive alignment by the distance of unimodal means."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from multiomics_vae.penalties.pairs import PairPenalty, recognition_cost


class DistanceNCE(PairPenalty):
    """Let a cell be recognised, by distance, from its mean in one modality among the cells seen in the other.

    As `InfoNCE`, with s_ij = −‖μ_a(i) − μ_b(j)‖² / (2 t) in place of a cosine: softmax_j(s_ij) is the
    probability that cell i, seen at μ_a(i) with an error of variance t in every dimension, is cell j
    (neighbourhood components, Goldberger et al. 2004, between two modalities). It is log n where all means
    look alike.

    Unlike the cosine it also brings lengths together, so that distances between cells that have different
    modalities mean something; z of the prior has variance 1, and t = 1.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        Ignored.

    Examples
    --------
    >>> DistanceNCE(n_latent=10, n_modalities=2, n_batches=1).variance
    1.0
    """

    name: ClassVar[str] = "distance_nce"
    variance: ClassVar[float] = 1.0

    def each(self, first: Tensor, second: Tensor) -> Tensor:
        inner = first @ second.T  # (n, n)
        lengths = 0.5 * (first.square().sum(1, keepdim=True) + second.square().sum(1))  # (n, n)
        return recognition_cost((inner - lengths) / self.variance)  # (n,)
