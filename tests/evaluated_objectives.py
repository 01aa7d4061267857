"""Losses of small modules, and a fixed noise that makes them comparable with sums written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, ObjectiveConfig

SHIFT = 0.7
WEIGHTS = (1.0, 2.5, 0.3)
N_TRAINING = 123


def fix_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every draw lie ``SHIFT`` standard deviations above its mean, so that no order of draws matters."""

    def shifted(self: StepNoise, mean: Tensor) -> Tensor:
        return torch.full_like(mean, SHIFT)

    monkeypatch.setattr(StepNoise, "like", shifted)


def evaluate(
    module: MultimodalModule,
    data: MultimodalData,
    config: ObjectiveConfig,
    weights: tuple[float, ...] = WEIGHTS,
    kl_scale: float = 1.0,
    cells: np.ndarray | None = None,
    seed: int = 0,
) -> LossTerms:
    minibatch = make_minibatch(data, np.arange(data.n_cells) if cells is None else cells)
    objective = Objective(config, weights, N_TRAINING)
    return objective(module, minibatch, kl_scale, torch.Generator().manual_seed(seed))


def number(value: Tensor) -> float:
    return value.item()


def gradients(module: MultimodalModule, value: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for name, p, g in zip(names, parameters, found, strict=True)
    }
