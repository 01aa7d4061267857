"""Shares among all features from a drawn part of them: values exact, gradients right on average."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from kernel_cases import make_inputs, relative_error
from torch import Tensor

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import (
    BernoulliKernel,
    ChunkOptions,
    ElementwiseKernel,
    FeatureSample,
    NegativeBinomialKernel,
    PoissonKernel,
    SparseRows,
    WholeLayer,
    fused_log_likelihoods,
)

KERNELS = pytest.mark.parametrize(
    "kernel", [NegativeBinomialKernel(), PoissonKernel()], ids=["nb", "poisson"]
)
SLOW, FAST = ChunkOptions(chunk_size=3, compiled=False), ChunkOptions(chunk_size=3, compiled=True)


class Problem:
    """One output layer and its counts, of which a part can be asked for."""

    def __init__(
        self,
        kernel: ElementwiseKernel,
        n_features: int = 6,
        n_cells: int = 4,
        dtype: torch.dtype = torch.float64,
        n_batches: int = 1,
        scale: float = 0.5,
    ) -> None:
        i = make_inputs(n_cells, n_features, 3, n_batches, dtype, scale)
        self.kernel, self.inputs = kernel, i
        self.leaves = [i.hidden, i.weight, i.bias]
        if kernel.has_dispersion:
            self.leaves.append(i.log_dispersion)

    def run(self, sample: FeatureSample | None, options: ChunkOptions, n_draws: int = 1) -> list[Tensor]:
        """Estimated totals, cells' values and gradients; None looks at all features."""
        i, scale, data = self.inputs, 1.0, self.inputs.data
        weight, bias = i.weight, i.bias
        dispersion, whole = i.log_dispersion if self.kernel.has_dispersion else None, None
        if sample is not None:
            whole = WholeLayer(weight, bias, data.row_sums())
            weight, bias = sample.rows_of(weight), sample.rows_of(bias)
            data, scale = sample.entries(data), sample.scale
            if dispersion is not None:
                dispersion = sample.rows_of(dispersion.movedim(-1, 0)).movedim(0, -1)
        draws = torch.stack([i.hidden * (1 + s) for s in range(n_draws)])  # (S, B, H)
        assert i.cell_weights is not None
        weights = torch.stack([i.cell_weights + s for s in range(n_draws)])  # (S, B)
        found = fused_log_likelihoods(
            self.kernel,
            draws,
            weight,
            bias,
            data,
            depth=i.depth,
            log_dispersion=dispersion,
            batch=i.batch if dispersion is not None else None,
            cell_weights=weights,
            options=options,
            whole=whole,
        )
        total = -scale * found.totals.sum()
        gradients = torch.autograd.grad(total, self.leaves)
        return [(found.totals * scale).detach(), found.per_cell * scale, *gradients]


@KERNELS
@pytest.mark.parametrize("n_batches", [1, 2])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_average_over_all_samples_is_exact(kernel: ElementwiseKernel, n_batches: int, n: int) -> None:
    """Mean over the C(6, n) samples, in float64, of values and of every gradient."""
    problem = Problem(kernel, n_batches=n_batches)
    exact = problem.run(None, SLOW, n_draws=2)
    samples = [FeatureSample(torch.tensor(each), 6) for each in combinations(range(6), n)]
    runs = [problem.run(sample, SLOW, n_draws=2) for sample in samples]
    for whole, *parts in zip(exact, *runs, strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-10, atol=1e-10)
    assert max(relative_error(part, exact[3]) for part in (run[3] for run in runs)) > 0.1  # samples differ


@KERNELS
@pytest.mark.parametrize("options", [SLOW, FAST], ids=["plain", "compiled"])
def test_all_features_drawn_are_no_estimate(kernel: ElementwiseKernel, options: ChunkOptions) -> None:
    problem = Problem(kernel, n_features=11, dtype=torch.float32)
    everything = FeatureSample(torch.arange(11), 11)
    for found, expected in zip(problem.run(everything, options), problem.run(None, options), strict=True):
        assert relative_error(found, expected) < 1e-5


@KERNELS
@pytest.mark.parametrize("memory_budget", [0, 2**20])
def test_compiled_agrees_with_plain(kernel: ElementwiseKernel, memory_budget: int) -> None:
    """Also where logits are computed twice, and with more features than one chunk on either side."""
    exact, single = (Problem(kernel, 40, 7, dtype) for dtype in (torch.float64, torch.float32))
    sample = FeatureSample.draw(40, 13, torch.Generator().manual_seed(1))
    expected = exact.run(sample, ChunkOptions(chunk_size=5), n_draws=3)
    for compiled in (True, False):
        options = ChunkOptions(chunk_size=5, compiled=compiled, memory_budget=memory_budget)
        for found, right in zip(single.run(sample, options, n_draws=3), expected, strict=True):
            assert relative_error(found.double(), right) < 2e-5


@KERNELS
def test_rounded_products_agree_with_exact_ones(kernel: ElementwiseKernel) -> None:
    problem = Problem(kernel, 300, 20, torch.float32)
    sample = FeatureSample.draw(300, 90, torch.Generator().manual_seed(1))
    expected = problem.run(sample, ChunkOptions(compiled=True))
    found = problem.run(sample, ChunkOptions(compiled=True, product_dtype=torch.bfloat16))
    for rounded, right in zip(found, expected, strict=True):
        assert relative_error(rounded, right) < 0.03


def test_what_is_known_of_the_total_is_taken_out() -> None:
    """A Poisson's slope by the logit is then exact at every drawn feature, whatever the others."""
    problem = Problem(PoissonKernel(), 12, 5)
    _, _, _, _, by_bias = problem.run(None, SLOW)
    sample = FeatureSample(torch.tensor([2, 7, 8]), 12)
    _, _, _, _, estimated = problem.run(sample, SLOW)
    expected = torch.zeros(12, dtype=torch.float64)
    expected[sample.features] = by_bias[sample.features] * sample.scale
    torch.testing.assert_close(estimated, expected)


def test_row_sums() -> None:
    dense = torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(SparseRows.from_dense(dense).row_sums(), dense.sum(1))


def test_what_cannot_be_estimated() -> None:
    problem = Problem(PoissonKernel())
    with pytest.raises(InputError, match="2 to 6 can be drawn, not 1"):
        problem.run(FeatureSample(torch.tensor([3]), 6), SLOW)
    ones = torch.ones(1, 4, 2)
    whole = WholeLayer(torch.ones(6, 2), torch.ones(6), torch.ones(4))
    data = SparseRows.from_dense(torch.ones(4, 3))
    with pytest.raises(InputError, match="BernoulliKernel has no shares among features: whole=None"):
        fused_log_likelihoods(BernoulliKernel(), ones, torch.ones(3, 2), torch.ones(3), data, whole=whole)
