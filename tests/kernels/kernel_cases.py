"""The fused functions with their plain references, on the same random inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from multiomics_vae.kernels import (
    ChunkOptions,
    LogLikelihood,
    SparseRows,
    bernoulli_log_likelihood,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)
from multiomics_vae.kernels.reference import (
    bernoulli_reference,
    negative_binomial_reference,
    poisson_reference,
)


@dataclass(frozen=True)
class Inputs:
    """Leaves that require a gradient, and the rest; counts with many zeros."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    offset: Tensor
    log_dispersion: Tensor
    data: SparseRows
    depth: Tensor
    batch: Tensor | None
    cell_weights: Tensor | None

    def with_counts(self, x: Tensor) -> Inputs:
        return replace(self, data=SparseRows.from_dense(x), depth=x.sum(1).clamp(min=1.0))


def make_inputs(
    n_cells: int = 6,
    n_features: int = 37,
    n_hidden: int = 4,
    n_batches: int = 1,
    dtype: torch.dtype = torch.float64,
    scale: float = 0.5,
) -> Inputs:
    generator = torch.Generator().manual_seed(n_cells * 1000 + n_features)

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (scale * drawn).to(dtype).requires_grad_()

    rate = 4.0 * torch.rand(n_cells, n_features, generator=generator, dtype=torch.float64) - 2.0
    x = torch.poisson(rate.clamp(min=0.0), generator=generator).to(dtype)  # (B, F)
    dispersion_shape = (n_features,) if n_batches == 1 else (n_batches, n_features)
    return Inputs(
        normal(n_cells, n_hidden),
        normal(n_features, n_hidden),
        normal(n_features),
        normal(n_cells),
        normal(*dispersion_shape),
        SparseRows.from_dense(x),
        x.sum(1).clamp(min=1.0) * 1.3,
        None if n_batches == 1 else torch.randint(0, n_batches, (n_cells,), generator=generator),
        torch.rand(n_cells, generator=generator, dtype=torch.float64).to(dtype),
    )


@dataclass(frozen=True)
class Case:
    name: str
    fused: Callable[[Inputs, ChunkOptions], LogLikelihood]
    plain: Callable[[Inputs], LogLikelihood]
    leaves: Callable[[Inputs], tuple[Tensor, ...]]


CASES = [
    Case(
        "bernoulli",
        lambda i, o: bernoulli_log_likelihood(
            i.hidden, i.weight, i.bias, i.data, offset=i.offset, cell_weights=i.cell_weights, options=o
        ),
        lambda i: bernoulli_reference(
            i.hidden, i.weight, i.bias, i.data, offset=i.offset, cell_weights=i.cell_weights
        ),
        lambda i: (i.hidden, i.weight, i.bias, i.offset),
    ),
    Case(
        "poisson",
        lambda i, o: poisson_log_likelihood(
            i.hidden, i.weight, i.bias, i.data, i.depth, cell_weights=i.cell_weights, options=o
        ),
        lambda i: poisson_reference(i.hidden, i.weight, i.bias, i.data, i.depth, cell_weights=i.cell_weights),
        lambda i: (i.hidden, i.weight, i.bias),
    ),
    Case(
        "nb",
        lambda i, o: negative_binomial_log_likelihood(
            i.hidden,
            i.weight,
            i.bias,
            i.data,
            i.depth,
            i.log_dispersion,
            batch=i.batch,
            cell_weights=i.cell_weights,
            options=o,
        ),
        lambda i: negative_binomial_reference(
            i.hidden,
            i.weight,
            i.bias,
            i.data,
            i.depth,
            i.log_dispersion,
            batch=i.batch,
            cell_weights=i.cell_weights,
        ),
        lambda i: (i.hidden, i.weight, i.bias, i.log_dispersion),
    ),
]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest deviation, relative to the largest expected value (to 0.01 if all are smaller)."""
    largest = expected.detach().abs().max().clamp(min=0.01)
    return float((found.detach() - expected.detach()).abs().max() / largest)


def assert_agree(case: Case, inputs: Inputs, options: ChunkOptions, tolerance: float) -> None:
    """Value, cells' values and every gradient agree with the plain reference."""
    fused, plain = case.fused(inputs, options), case.plain(inputs)
    leaves = case.leaves(inputs)
    # An upstream factor other than ±1, so that the chain rule through the total is seen.
    found = torch.autograd.grad(-0.7 * fused.total, leaves)
    expected = torch.autograd.grad(-0.7 * plain.total, leaves)
    assert relative_error(fused.total, plain.total) <= tolerance
    assert relative_error(fused.per_cell, plain.per_cell) <= tolerance
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert relative_error(one, other) <= tolerance
