"""How deep a cell that was not measured would have been: depth given z, learned from cells that were.

The depth of a modality is a measurement of it, and imputation must not read it. What counts would look
like depends on it all the same, so it is drawn: log depth = w · (1, z, s) + σ ε, with covariates s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.inference import infer
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

MOST_CELLS = 5_000
RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class DepthModel:
    """log depth ~ N(w · (1, z, s), σ²) in one modality.

    Parameters
    ----------
    weights
        w: intercept, K latent dimensions, D covariates, ``(1 + K + D,)``, float32.
    log_sd
        log σ.
    """

    weights: Tensor
    log_sd: float

    @classmethod
    def none(cls, module: MultimodalModule) -> DepthModel:
        """A depth of 1, for a likelihood that reads none."""
        return cls(torch.zeros(1 + module.n_latent + module.covariates.n_outputs), float("-inf"))

    def mean_log(self, module: MultimodalModule, z: Tensor, covariates: Covariates) -> Tensor:
        """E[log depth | z, s] of cells at z ``(B, K)``: ``(B,)``."""
        weights = self.weights.to(z)
        return weights[0] + _inputs(module, z, covariates) @ weights[1:]

    @property
    def sd(self) -> float:
        """σ."""
        return float(np.exp(self.log_sd))

    def expected(self, mean_log: Tensor) -> Tensor:
        """E[depth | z, s] = exp(mean log + σ²/2): ``(B,)``."""
        return (mean_log + 0.5 * self.sd**2).exp()

    def at(self, mean_log: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal numbers into depths: ``(B,)``."""
        return (mean_log + self.sd * noise).exp()

    def to_tensor(self) -> Tensor:
        """All numbers in one row, for a checkpoint: ``(2 + K + D,)``."""
        return torch.cat([self.weights, torch.tensor([self.log_sd])])

    @classmethod
    def from_tensor(cls, row: Tensor) -> DepthModel:
        """The inverse of `to_tensor`."""
        return cls(row[:-1].clone(), float(row[-1]))


def fit_depth(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    seed: int = 0,
) -> DepthModel:
    """Regress log depth on z, drawn given everything that a cell has, by ridge least squares.

    z is drawn and not its mean, so that p(depth | z) stands beside p(x | z) in one generative model: drawn
    from a wider posterior, as given fewer modalities, it gives an accordingly wider depth.

    Parameters
    ----------
    module, data, batch_size
        The model and the cells.
    cells
        Positions; a random 5 000 of those that have the modality are used.
    modality
        Its position.
    seed
        Of that choice, and of the draws.

    Raises
    ------
    InputError
        If fewer than two cells have the modality.
    """
    part = data.modalities[modality]
    having = cells[part.row_of_cell[cells] >= 0]
    if len(having) < 2:
        name = data.schema.modality_names[modality]
        raise InputError(
            f"The depth of {name!r} must be learned from cells that have it, which {len(having)} of "
            f"{len(cells)} do. Load the model with its training cells: model = MultiVAE.load(path, mdata)"
        )
    if len(having) > MOST_CELLS:
        chosen = np.random.default_rng(seed).choice(len(having), MOST_CELLS, replace=False)
        having = having[np.sort(chosen)]
    rows = []
    for inferred in infer(module, data, having, batch_size, None, seed):
        inputs = _inputs(module, inferred.sample(1)[0], inferred.minibatch.covariates)  # (B, K + D)
        rows.append(inputs.double().cpu().numpy())
    x = np.concatenate(rows)  # (n, K + D)
    y = np.log(part.depth[part.row_of_cell[having]].astype(np.float64))  # (n,)
    middle = x.mean(0)
    centred = x - middle
    gram = centred.T @ centred + RIDGE * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (y - y.mean()))  # (K + D,)
    residual = y - y.mean() - centred @ slope
    sd = np.sqrt(np.mean(residual**2))
    weights = np.concatenate([[y.mean() - middle @ slope], slope])
    # A constant depth has no logarithm of a spread.
    return DepthModel(torch.from_numpy(weights).float(), float(np.log(max(sd, 1e-6))))


def _inputs(module: MultimodalModule, z: Tensor, covariates: Covariates) -> Tensor:
    return torch.cat([z, module.covariates(covariates)], dim=-1)  # (B, K + D)
