"""How deep a modality of a cell would have been, told from what else is known of the cell.

The depth of a modality is a measurement of it, so imputation must not read it. Yet what would be measured
follows it, and the depths of a cell's modalities go together: a large or well-lysed cell has more of
everything. For every direction A → m that is asked for, ridge regression on cells that have both,

    log depth_m = w · (1, E[z | x_A], s, log depth_A) + σ ε,

with covariates s. The depths of A are inputs of their own because encoders read values without depth, so
z hardly knows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.analysis.inference import infer
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

MOST_CELLS = 5_000
FEWEST_CELLS = 3
RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class DepthModel:
    """log depth ~ N(intercept + slope · (inputs − centre)/scale, σ²) in one modality.

    Parameters
    ----------
    intercept
        Mean log depth of the cells it was fitted on.
    slope, centre, scale
        Of the inputs, ``(P,)`` each.
    sd
        σ, with the degrees of freedom that the regression used taken off.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> DepthModel.fit(x, x[:, 0] + 3.0).expected(np.zeros((1, 2))).round(1)
    array([20.1])
    """

    intercept: float
    slope: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    sd: float

    @classmethod
    def fit(cls, inputs: np.ndarray, log_depth: np.ndarray) -> DepthModel:
        """Ridge regression on standardised inputs, ``(n, P)`` and ``(n,)``, with penalty 1."""
        centre, scale = inputs.mean(0), inputs.std(0)
        scale = np.where(scale > 1e-9, scale, 1.0)  # what does not vary gets slope 0
        x, y = (inputs - centre) / scale, log_depth - log_depth.mean()
        gram = x.T @ x
        penalised = gram + RIDGE * np.eye(len(gram))
        slope = np.linalg.solve(penalised, x.T @ y)  # (P,)
        used = 1.0 + np.trace(np.linalg.solve(penalised, gram))
        sd = np.sqrt(np.square(y - x @ slope).sum() / max(len(y) - used, 1.0))
        return cls(float(log_depth.mean()), slope, centre, scale, float(sd))

    def expected(self, inputs: np.ndarray) -> np.ndarray:
        """E[depth] = exp(mean log + σ²/2): ``(n,)``."""
        mean_log = self.intercept + (inputs - self.centre) / self.scale @ self.slope  # (n,)
        return np.asarray(np.exp(mean_log + 0.5 * self.sd**2))


@dataclass(frozen=True, eq=False)
class Reference:
    """The cells from which depths are learned: those that the model was trained on."""

    data: MultimodalData
    cells: np.ndarray


def predicted_depths(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    given: tuple[int, ...] | None,
    reference: Reference,
) -> np.ndarray:
    """Expected depth of one modality of every cell; as measured where the modality itself is given.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    modality
        Position of the modality.
    given
        Positions of the modalities that may be read; None for all that a cell has.
    reference
        Where the regression is fitted.

    Returns
    -------
    ndarray
        ``(N,)``, float64.

    Raises
    ------
    InputError
        If fewer than three cells of the reference have the modality and what is given.
    """
    known = data.present[cells].copy()  # (N, M)
    if given is not None:
        known[:, np.setdiff1d(np.arange(known.shape[1]), given)] = False
    depths = np.empty(len(cells))
    for pattern in np.unique(known, axis=0):
        here = (known == pattern).all(1)  # (N,)
        if pattern[modality]:
            part = data.modalities[modality]
            depths[here] = part.depth[part.row_of_cell[cells[here]]]
            continue
        chosen = tuple(np.flatnonzero(pattern).tolist())
        fitted = _fit(module, reference, batch_size, modality, chosen)
        depths[here] = fitted.expected(_inputs(module, data, cells[here], batch_size, chosen))
    return depths


def _fit(
    module: MultimodalModule,
    reference: Reference,
    batch_size: int,
    modality: int,
    given: tuple[int, ...],
) -> DepthModel:
    data, cells = reference.data, reference.cells
    having = cells[data.present[cells][:, [modality, *given]].all(axis=1)]
    if len(having) < FEWEST_CELLS:
        names = data.schema.modality_names
        raise InputError(
            f"{len(having)} training cells have {names[modality]!r} together with "
            f"{[names[m] for m in given]}, so nothing says how deep it would be. Say it: library_size=1e4"
        )
    if len(having) > MOST_CELLS:
        drawn = np.random.default_rng(0).choice(len(having), MOST_CELLS, replace=False)
        having = having[np.sort(drawn)]
    part = data.modalities[modality]
    log_depth = np.log(part.depth[part.row_of_cell[having]].astype(np.float64))  # (n,)
    return DepthModel.fit(_inputs(module, data, having, batch_size, given), log_depth)


def _inputs(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    given: tuple[int, ...],
) -> np.ndarray:
    """E[z | x_A], covariates and log depths of A, side by side: ``(n, K + D + |A|)``."""
    blocks = []
    for inferred in infer(module, data, cells, batch_size, given):
        covariates = module.covariates(inferred.minibatch.covariates)  # (B, D)
        depths = [inferred.minibatch.modalities[m].depth.log() for m in given]
        columns = [inferred.fused.posterior.mean, covariates, *(d.unsqueeze(1) for d in depths)]
        blocks.append(np.hstack([column.double().cpu().numpy() for column in columns]))
    return np.concatenate(blocks)
