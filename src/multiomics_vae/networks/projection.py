"""A fixed linear projection of wide inputs: truncated SVD of the transformed training cells.

After TF-IDF this is latent semantic indexing; after log-normalisation, principal components. It has
nothing to learn in training, so a hundred thousand peaks cost one product a minibatch.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from multiomics_vae.kernels import SparseRows

DEPTH_CORRELATION = 0.5**0.5


class Projection(nn.Module):
    """x @ components − centre: outputs of mean 0 and unit variance over the training cells.

    Parameters
    ----------
    components
        ``(F, R)``.
    centre
        Mean of the projected training cells, ``(R,)``.
    """

    def __init__(self, components: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("components", components)
        self.register_buffer("centre", centre)
        self.components: Tensor
        self.centre: Tensor

    @property
    def n_outputs(self) -> int:
        return self.components.shape[1]

    def forward(self, x: Tensor | SparseRows) -> Tensor:
        if isinstance(x, SparseRows):
            projected = nn.functional.embedding_bag(
                x.columns,
                self.components,
                x.row_pointers,
                mode="sum",
                per_sample_weights=x.values,
                include_last_offset=True,
            )
            return projected - self.centre  # (B_m, R)
        return x @ self.components - self.centre  # (B_m, R)

    @classmethod
    def empty(cls, n_inputs: int, n_outputs: int) -> Projection:
        """A projection to be filled from a checkpoint."""
        return cls(torch.zeros(n_inputs, n_outputs), torch.zeros(n_outputs))

    @classmethod
    def fit(
        cls, transformed: sp.csr_matrix | np.ndarray, log_depth: np.ndarray, n_outputs: int, seed: int
    ) -> Projection:
        """Truncated SVD (randomised, Halko et al. 2011), every direction scaled to unit variance.

        As in latent semantic indexing the values are not centred first, so that they stay sparse.

        A direction of whose variance the log depth explains more than half (in practice the first one after
        TF-IDF) is left out: it tells how deeply a cell was sequenced, not what it is.

        Parameters
        ----------
        transformed
            Transformed training cells, ``(n, F)``.
        log_depth
            ``(n,)``.
        n_outputs
            Directions wanted; fewer come back if the data have fewer.
        seed
            Of the randomised start.
        """
        n_outputs = max(1, min(n_outputs, min(transformed.shape) - 1))
        _, _, v = randomized_svd(transformed, n_outputs, n_iter=4, random_state=seed)
        scores = np.asarray(transformed @ v.T, dtype=np.float64)  # (n, R)
        sd = scores.std(axis=0)
        keep = sd > 1e-6 * sd.max()
        if log_depth.std() > 0:
            centred = scores - scores.mean(axis=0)
            covariance = centred.T @ (log_depth - log_depth.mean()) / len(log_depth)
            keep &= np.abs(covariance) <= DEPTH_CORRELATION * np.maximum(sd, 1e-12) * log_depth.std()
        if not keep.any():
            keep[0] = True
        # A direction in which no training cell differs has no scale; it must not blow up other cells.
        scale = np.where(sd > 1e-6 * np.abs(scores).max(), sd, 1.0)[keep]  # (R,)
        components = v[keep].T / scale  # (F, R)
        centre = scores[:, keep].mean(axis=0) / scale
        return cls(
            torch.as_tensor(np.ascontiguousarray(components), dtype=torch.float32),
            torch.as_tensor(centre, dtype=torch.float32),
        )
