"""How deep a modality of a cell would have been, told from what else is known of the cell.

The depth of a modality is a measurement of it, and imputation must not read it. What counts would look
like depends on it all the same, so it is drawn. The depths of a cell's modalities go together: a large or
well-lysed cell has more of everything. So for each target m and each set A of given modalities

    log depth_m = w · (1, E[z | x_A], s, log depth_A) + σ ε,

with covariates s. The depths of A are inputs of their own, because encoders read values without depth and
z hardly knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.inference import infer
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.minibatch import Covariates, Minibatch
from multiomics_vae.data.schema import Schema
from multiomics_vae.errors import InputError, warn
from multiomics_vae.module import MultimodalModule

MOST_CELLS = 5_000
FEWEST_CELLS = 3
RIDGE = 1.0
SMALLEST_SCALE = 1e-6
SMALLEST_SD = 1e-6  # a constant depth has no logarithm of a spread


class LearnedFrom(IntEnum):
    """Which cells a depth was learned from; all of them have the target."""

    ALL_GIVEN = 0
    ANY_GIVEN = 1  # too few have all
    NONE_GIVEN = 2  # too few have any, so that nothing but the covariates is used

    @property
    def description(self) -> str:
        """In words, for a note."""
        return (
            "learned from cells with all that is given",
            "learned from cells with some of what is given, too few having all",
            "as of all cells with the target: too few have anything of what is given",
        )[self]


@dataclass(frozen=True, eq=False)
class DepthModel:
    """log depth ~ N(intercept + slope · (inputs − centre), σ²) in one modality, given others.

    The inputs are E[z | x_A] ``(K,)``, the covariates ``(D,)`` and the log depths of A ``(|A|,)``: P in all.

    Parameters
    ----------
    given
        A, positions.
    intercept
        Mean log depth of the cells it was learned from.
    slope, centre
        ``(P,)`` each, float32. A log depth that a cell lacks is taken to be its centre.
    sd
        σ.
    learned_from
        Which cells had what was needed.
    """

    given: tuple[int, ...]
    intercept: float
    slope: Tensor
    centre: Tensor
    sd: float
    learned_from: LearnedFrom = LearnedFrom.ALL_GIVEN

    @classmethod
    def none(cls, module: MultimodalModule) -> DepthModel:
        """A depth of 1, for a likelihood that reads none and where every cell has its own."""
        zeros = torch.zeros(module.n_latent + module.covariates.n_outputs)
        return cls((), 0.0, zeros, zeros, 0.0)

    def mean_log(
        self, module: MultimodalModule, mean: Tensor, covariates: Covariates, log_depths: Tensor
    ) -> Tensor:
        """E[log depth] of cells: ``(B,)``.

        Parameters
        ----------
        module
            The model.
        mean
            E[z | x_A], ``(B, K)``.
        covariates
            Which the cells are decoded as.
        log_depths
            Of A, ``(B, |A|)``, as `log_depths` gives them.
        """
        centre = self.centre.to(mean)
        usual = centre[len(centre) - log_depths.shape[1] :]  # (|A|,)
        known = torch.where(log_depths.isnan(), usual, log_depths)  # (B, |A|)
        inputs = _inputs(module, mean, covariates, known)  # (B, P)
        return self.intercept + (inputs - centre) @ self.slope.to(mean)

    def expected(self, mean_log: Tensor) -> Tensor:
        """E[depth] = exp(mean log + σ²/2): ``(B,)``."""
        return (mean_log + 0.5 * self.sd**2).exp()

    def at(self, mean_log: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal numbers into depths: ``(B,)``."""
        return (mean_log + self.sd * noise).exp()

    def to_tensor(self) -> Tensor:
        """All numbers but A in one row, for a checkpoint: ``(3 + 2 P,)``, float32."""
        first = torch.tensor([float(self.learned_from), self.intercept, self.sd])
        return torch.cat([first, self.slope, self.centre])

    @classmethod
    def from_tensor(cls, row: Tensor, given: tuple[int, ...]) -> DepthModel:
        """The inverse of `to_tensor`."""
        slope, centre = row[3:].clone().chunk(2)
        learned_from, intercept, sd = row[:3].tolist()
        return cls(given, intercept, slope, centre, sd, LearnedFrom(int(learned_from)))

    @staticmethod
    def n_numbers(module: MultimodalModule, n_given: int) -> int:
        """Length of `to_tensor` for a direction with so many given modalities."""
        return 3 + 2 * (module.n_latent + module.covariates.n_outputs + n_given)


def log_depths(minibatch: Minibatch, given: tuple[int, ...]) -> Tensor:
    """Log depth of some modalities of each cell, NaN where it lacks one: ``(B, |A|)``."""
    covariates = minibatch.covariates
    found = torch.full((minibatch.n_cells, len(given)), torch.nan, device=covariates.batch.device)
    for column, m in enumerate(given):
        part = minibatch.modalities[m]
        found[part.rows, column] = part.depth.log().to(found)
    return found


def fit_depth(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    direction: Direction,
    seed: int = 0,
) -> DepthModel:
    """Regress the log depth of a target on what may be read to predict it, by ridge least squares.

    Inputs are standardised and the penalty is 1, so one that does not vary (the depth of real values, say,
    which is always 1) has slope 0. σ² is the mean squared error of each cell told from the others (Allen
    1974), which takes off the degrees of freedom that the regression used.

    It is learned from cells that have the target and all that is given. If fewer than three do, from those
    that have the target and some of it. If fewer than three do even so, as in a mosaic in which no cell
    has both, z and depths cannot be used and have slope 0: the depth is then that of the target's cells,
    as far as covariates tell it. `DepthModel.learned_from` says which it was; see `warn_if_unlearned`.

    Parameters
    ----------
    module, data, batch_size
        The model and the cells.
    cells
        Positions; at most 5 000, drawn at random, are used.
    direction
        Target, and what is given.
    seed
        Of that draw.

    Raises
    ------
    InputError
        If fewer than three cells have the target, or the direction is that of denoising.

    Examples
    --------
    >>> depth = fit_depth(module, data, cells, 512, Direction(1, (0,)))   # doctest: +SKIP
    >>> depth.sd                                                          # doctest: +SKIP
    """
    if direction.given is None:
        raise InputError(
            "Denoising is at each cell's own depth, which is not to be predicted. Name what is given: "
            f"Direction({direction.modality}, given=(...,))"
        )
    having, learned_from = _cells_to_learn_from(data, cells, direction)
    if len(having) > MOST_CELLS:
        chosen = np.random.default_rng(seed).choice(len(having), MOST_CELLS, replace=False)
        having = having[np.sort(chosen)]
    used = () if learned_from is LearnedFrom.NONE_GIVEN else direction.given
    rows = []
    for inferred in infer(module, showing_only(data, used), having, batch_size):
        depths = log_depths(inferred.minibatch, direction.given)  # (B, |A|)
        inputs = _inputs(module, inferred.fused.posterior.mean, inferred.minibatch.covariates, depths)
        rows.append(inputs.double().cpu().numpy())
    x = np.concatenate(rows)  # (n, P)
    if not used:
        x[:, : module.n_latent] = np.nan
    part = data.modalities[direction.modality]
    y = np.log(part.depth[part.row_of_cell[having]].astype(np.float64))  # (n,)
    slope, centre, sd = ridge(x, y)
    return DepthModel(
        direction.given,
        float(np.float32(y.mean())),
        torch.from_numpy(slope).float(),
        torch.from_numpy(centre).float(),
        float(np.float32(max(sd, SMALLEST_SD))),
        learned_from,
    )


def warn_if_unlearned(depth: DepthModel, schema: Schema, modality: int) -> None:
    """Say so where a depth could not be learned from what is given."""
    if depth.learned_from is not LearnedFrom.NONE_GIVEN:
        return
    name, given = schema.modality_names[modality], [schema.modality_names[m] for m in depth.given]
    warn(
        f"Fewer than {FEWEST_CELLS} training cells have {name!r} together with any of {given}, so nothing "
        f"says how deep {name!r} would be in one: its depth is drawn from those of all cells that have it. "
        "Train with cells that have both (or load the model with them), or ask for values without depth: "
        f"model.get_normalized({name!r}, given={given})"
    )


def _cells_to_learn_from(
    data: MultimodalData, cells: np.ndarray, direction: Direction
) -> tuple[np.ndarray, LearnedFrom]:
    present = data.present[cells]  # (N, M)
    target, given = present[:, direction.modality], present[:, list(direction.given or ())]
    if target.sum() < FEWEST_CELLS:
        name = data.schema.modality_names[direction.modality]
        raise InputError(
            f"The depth of {name!r} must be learned from cells that have it, which {int(target.sum())} of "
            f"{len(cells)} do. Load the model with its training cells: model = MultiVAE.load(path, mdata)"
        )
    for learned_from, enough in (
        (LearnedFrom.ALL_GIVEN, target & given.all(axis=1)),
        (LearnedFrom.ANY_GIVEN, target & given.any(axis=1)),
    ):
        if enough.sum() >= FEWEST_CELLS:
            return np.asarray(cells[enough]), learned_from
    return np.asarray(cells[target]), LearnedFrom.NONE_GIVEN


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes and centres ``(P,)`` and σ; NaN in x stands at the mean of its column."""
    known = ~np.isnan(x)
    centre = np.where(known, x, 0.0).sum(0) / np.maximum(known.sum(0), 1)  # (P,)
    away = np.where(known, x - centre, 0.0)
    scale = away.std(0)
    varies = scale > SMALLEST_SCALE
    scale = np.where(varies, scale, 1.0)
    away = np.where(varies, away / scale, 0.0)  # what does not vary gets slope 0
    penalised = away.T @ away + RIDGE * np.eye(x.shape[1])
    solved = np.linalg.solve(penalised, away.T)  # (P, n)
    slope = solved @ (y - y.mean())  # (P,)
    residual = y - y.mean() - away @ slope
    leverage = 1.0 / len(y) + (away * solved.T).sum(1)  # (n,)
    # Residuals of cells that the regression has seen are too small, by far where cells are few.
    left_out = residual / (1.0 - leverage)
    return slope / scale, centre, float(np.sqrt(np.square(left_out).mean()))


def _inputs(module: MultimodalModule, mean: Tensor, covariates: Covariates, log_depths: Tensor) -> Tensor:
    return torch.cat([mean, module.covariates(covariates), log_depths], dim=-1)  # (B, P)
