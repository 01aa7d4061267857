"""Heads of every kind on every outcome that they serve, with scores and labels to try them on."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.heads import HEADS, Head, OutcomeHead

N_INPUTS = 4
OUTCOMES = {
    "binary": OutcomeSchema("response", "binary", ("response",), ("no", "yes")),
    "categorical": OutcomeSchema("type", "categorical", ("type",), ("B", "NK", "T")),
    "ordinal": OutcomeSchema("stage", "ordinal", ("stage",), ("I", "II", "III", "IV")),
    "continuous": OutcomeSchema("age", "continuous", ("age",), mean=40.0, sd=12.0),
    "survival": OutcomeSchema("os", "survival", ("time", "event"), time_scale=100.0),
}
CASES = [(name, kind) for name in HEADS for kind in HEADS[name].serves]


def make_head(name: str, kind: str, seed: int = 0, dtype: torch.dtype = torch.float64, **said) -> OutcomeHead:
    """A head with random weights that has seen the labels of `make_labels`."""
    generator = torch.Generator().manual_seed(seed)
    head = HEADS[name](N_INPUTS, OUTCOMES[kind], Head(kind=name, **said)).to(dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    labels = make_labels(kind, 60, seed=1, dtype=dtype)
    head.learn_from(labels)
    head.finish(make_scores(head, 60, dtype=dtype), labels)
    return head


def make_features(n_rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, N_INPUTS, generator=generator, dtype=torch.float64).to(dtype)


def make_scores(head: OutcomeHead, n_rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    with torch.no_grad():
        return head(make_features(n_rows, seed, dtype))


def make_labels(kind: str, n_rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Labels of all rows; times of survival are tied in part."""
    generator = torch.Generator().manual_seed(seed)
    outcome = OUTCOMES[kind]
    if kind == "survival":
        times = torch.randint(1, 30, (n_rows,), generator=generator) / 8.0
        events = torch.rand(n_rows, generator=generator) < 0.6
        events[: min(2, n_rows)] = True
        return torch.stack([times, events], dim=1).to(dtype)
    if kind == "continuous":
        return torch.randn(n_rows, 1, generator=generator, dtype=torch.float64).to(dtype)
    return torch.randint(0, len(outcome.categories), (n_rows, 1), generator=generator).to(dtype)
