"""Weights λ of the modalities, so that the widest does not drown the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.likelihoods import CellContext, FeatureStatistics, Likelihood
from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.processes import mean_norms

MOST_CELLS = 2_000

ModalityWeights = Literal["equal", "balanced", "adaptive"] | Mapping[str, float]


def starting_weights(
    choice: ModalityWeights, data: MultimodalData, cells: np.ndarray, module: MultimodalModule
) -> tuple[float, ...]:
    """λ of every modality at the start of training.

    Parameters
    ----------
    choice
        ``"equal"`` and ``"adaptive"`` start at 1; ``"balanced"`` weighs by the marginal model; a mapping
        gives some, the others are 1.
    data, cells
        The training cells.
    module
        The model, whose likelihoods are asked.
    """
    names = data.schema.modality_names
    if isinstance(choice, Mapping):
        for name, weight in choice.items():
            if name not in names:
                raise InputError(f"modality_weights names a modality {name!r}. {did_you_mean(name, names)}")
            if not (isinstance(weight, Real) and math.isfinite(weight) and weight >= 0):
                raise InputError(
                    f"modality_weights[{name!r}] must be a number of at least 0, not {weight!r}: "
                    f"model.train(modality_weights={{{name!r}: 1.0}})"
                )
        return tuple(float(choice.get(name, 1.0)) for name in names)
    allowed = ("equal", "balanced", "adaptive")
    if choice not in allowed:
        raise InputError(f"There is no modality_weights={choice!r}. {did_you_mean(choice, allowed)}")
    if choice == "balanced":
        return balanced_weights(data, cells, module.likelihoods)
    return (1.0,) * len(names)


def balanced_weights(
    data: MultimodalData, cells: np.ndarray, likelihoods: Sequence[Likelihood]
) -> tuple[float, ...]:
    """λ_m = mean_k(H_k) / H_m, with H the negative log likelihood a cell of the marginal model.

    For real values H is that of the standardised data, ½ log(2πe) an entry: their unit is arbitrary.

    Parameters
    ----------
    data, cells
        The training cells (2 000 of them are read).
    likelihoods
        One a modality; fresh ones of the same kind are made, these are not changed.
    """
    heights = [
        _marginal_height(data, m, cells, type(likelihood), likelihood.dispersion)
        for m, likelihood in enumerate(likelihoods)
    ]
    known = [height for height in heights if height > 0]
    average = sum(known) / len(known) if known else 1.0
    return tuple(average / height if height > 0 else 1.0 for height in heights)


def _marginal_height(
    data: MultimodalData, modality: int, cells: np.ndarray, kind: type[Likelihood], dispersion: str
) -> float:
    cells = cells[data.modalities[modality].row_of_cell[cells] >= 0][:MOST_CELLS]
    if len(cells) == 0:
        return 0.0
    minibatch = make_minibatch(data, cells)
    batch = minibatch.modalities[modality]
    if kind.support == "real":
        n_entries = batch.dense.numel() if batch.observed is None else int(batch.observed.sum())
        return 0.5 * math.log(2.0 * math.pi * math.e) * n_entries / len(cells)
    statistics = feature_statistics(data, modality, cells)
    context = CellContext(batch.depth, minibatch.covariates.batch, batch.coverage)
    log_prob = marginal_log_prob(
        kind(statistics, dispersion), statistics, batch.dense, context, batch.observed
    )
    return float(-log_prob.mean())


@torch.no_grad()
def marginal_log_prob(
    likelihood: Likelihood,
    statistics: FeatureStatistics,
    values: Tensor,
    cells: CellContext,
    observed: Tensor | None,
) -> Tensor:
    """Log likelihood of each row when every cell gets the start biases, that is, without z: ``(B,)``."""
    outputs = tuple(bias.expand(len(values), -1) for bias in likelihood.start_biases(statistics))
    log_prob = likelihood.log_prob(values, outputs, cells)  # (B, F)
    if observed is not None:
        log_prob = log_prob.masked_fill(~observed, 0.0)
    return log_prob.sum(-1)


class GradientBalance:
    """Adapts λ so that every modality pulls on z with the same force.

    The gradient of each modality's log likelihood with respect to z is observed in the backward pass
    (a hook on the z that its decoder reads, at no cost), its norm is averaged over steps, and
    λ_m = mean_k(norm_k) / norm_m, normalised to mean 1 (after GradNorm, Chen et al. 2018).

    Parameters
    ----------
    n_modalities
        M.
    smoothing
        Weight of the past in the running average.
    """

    def __init__(self, n_modalities: int, smoothing: float = 0.98) -> None:
        self.norms = [0.0] * n_modalities
        self.smoothing = smoothing
        self._current = [1.0] * n_modalities

    def restore(self, norms: Sequence[float], weights: Sequence[float]) -> None:
        """Go on from running norms and the λ they gave."""
        self.norms, self._current = list(norms), list(weights)

    def watch(self, z: Tensor, modality: int) -> Tensor:
        """Return z for one decoder, watched."""
        if not z.requires_grad:
            return z
        watched = z.clone()

        def observe(gradient: Tensor) -> None:
            # The gradient already carries λ: take it out.
            norm = float(gradient.norm()) / max(self._current[modality], 1e-12)
            old = self.norms[modality]
            self.norms[modality] = norm if old == 0 else self.smoothing * old + (1 - self.smoothing) * norm

        watched.register_hook(observe)  # type: ignore[no-untyped-call]
        return watched

    def weights(self) -> tuple[float, ...]:
        """λ for the next step, the same in every process."""
        norms = mean_norms(self.norms)
        if any(norm == 0.0 for norm in norms):
            return tuple(self._current)
        raw = [1.0 / norm for norm in norms]
        average = sum(raw) / len(raw)
        self._current = [value / average for value in raw]
        return tuple(self._current)
