"""Which parameters learn how fast, and which of them decay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.optimizer import AveragingAdamW

BETAS = (0.9, 0.99)
HEAD_RATE = 10.0
"""Learning rate of heads over that of all else: few numbers, which must not lag behind what they read."""


def make_optimizer(
    parameters: Iterable[nn.Parameter], heads: nn.Module, config: TrainingConfig, walks: bool
) -> torch.optim.AdamW:
    """AdamW for all that can learn.

    Parameters
    ----------
    parameters
        Of everything, heads included; frozen ones are left out.
    heads
        Those among them that learn `HEAD_RATE` times as fast.
    config
        Learning rate and weight decay.
    walks
        Whether optimiser and average go over wide matrices together; on a processor only.
    """
    rate, decay = config.learning_rate, config.weight_decay
    of_heads = [p for p in heads.parameters() if p.requires_grad]
    known = {id(p) for p in of_heads}
    others = [p for p in parameters if p.requires_grad and id(p) not in known]
    groups = [
        *_groups(others, rate, decay),
        *(_groups(of_heads, HEAD_RATE * rate, decay) if of_heads else []),
    ]
    if walks:
        return AveragingAdamW(groups, rate, BETAS)
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


def _groups(parameters: Sequence[nn.Parameter], rate: float, decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay, and vectors, which do not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
    ]
