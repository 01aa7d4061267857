"""A drawn part of the features that stands for all: right on average, values and gradients."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from kernel_cases import make_inputs, relative_error
from torch import Tensor

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import (
    BernoulliKernel,
    ChunkOptions,
    DrawnFeatures,
    ElementwiseKernel,
    FeatureSample,
    NegativeBinomialKernel,
    PoissonKernel,
    SparseRows,
    WholeLayer,
    fused_log_likelihoods,
)

KERNELS = pytest.mark.parametrize(
    "kernel",
    [NegativeBinomialKernel(), PoissonKernel(), BernoulliKernel()],
    ids=["nb", "poisson", "bernoulli"],
)
SLOW, FAST = ChunkOptions(chunk_size=3, compiled=False), ChunkOptions(chunk_size=3, compiled=True)
CHANCES = torch.tensor([0.3, 1.0, 0.7, 0.15, 0.5, 0.9], dtype=torch.float64)  # of six features


def sample_of(chances: Tensor, drawn: Tensor) -> FeatureSample:
    features = drawn.nonzero().squeeze(1)
    return FeatureSample(features, len(chances), chances[features])


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
        self.leaves += [i.log_dispersion] if kernel.has_dispersion else []
        self.leaves += [] if kernel.normalised else [i.offset]

    def run(self, sample: FeatureSample | None, options: ChunkOptions, n_draws: int = 1) -> list[Tensor]:
        """Estimated totals, cells' values and gradients; None looks at all features."""
        i, data = self.inputs, self.inputs.data
        weight, bias = i.weight, i.bias
        dispersion, drawn = i.log_dispersion if self.kernel.has_dispersion else None, None
        if sample is not None and sample.chances is not None:
            whole = WholeLayer(weight, bias, data.row_sums()) if self.kernel.normalised else None
            drawn = DrawnFeatures(sample.chances.to(i.weight.dtype), whole)
            weight, bias, data = sample.rows_of(weight), sample.rows_of(bias), sample.entries(data)
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
            depth=i.depth if self.kernel.normalised else None,
            offset=None if self.kernel.normalised else i.offset,
            log_dispersion=dispersion,
            batch=i.batch if dispersion is not None else None,
            cell_weights=weights,
            options=options,
            drawn=drawn,
        )
        gradients = torch.autograd.grad(-found.totals.sum(), self.leaves)
        return [found.totals.detach(), found.per_cell, *gradients]


@KERNELS
@pytest.mark.parametrize("n_batches", [1, 2])
@pytest.mark.parametrize("options", [SLOW, FAST], ids=["plain", "compiled"])
def test_average_over_all_samples_is_exact(
    kernel: ElementwiseKernel, n_batches: int, options: ChunkOptions
) -> None:
    """Mean over the samples of six features, each by its probability, of values and of every gradient.

    The sample of none is the estimate 0; the feature of chance 1 is in every sample, so it does not occur.
    """
    dtype, tolerance = (torch.float64, 1e-10) if options is SLOW else (torch.float32, 2e-5)
    problem = Problem(kernel, n_batches=n_batches, dtype=dtype)
    exact = problem.run(None, SLOW, n_draws=2)
    sums, spread = [torch.zeros_like(tensor) for tensor in exact], 0.0
    for each in product((False, True), repeat=6):
        drawn = torch.tensor(each)
        probability = float(torch.where(drawn, CHANCES, 1.0 - CHANCES).prod())
        if probability == 0.0:
            continue
        found = problem.run(sample_of(CHANCES, drawn), options, n_draws=2)
        spread = max(spread, relative_error(found[3], exact[3]))
        sums = [total + probability * part for total, part in zip(sums, found, strict=True)]
    for found, expected in zip(sums, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 10)
    assert spread > 0.1  # samples differ


@KERNELS
@pytest.mark.parametrize("options", [SLOW, FAST], ids=["plain", "compiled"])
def test_features_that_are_certain_are_no_estimate(kernel: ElementwiseKernel, options: ChunkOptions) -> None:
    problem = Problem(kernel, n_features=11, dtype=torch.float32)
    everything = sample_of(torch.ones(11), torch.ones(11))
    for found, expected in zip(problem.run(everything, options), problem.run(None, options), strict=True):
        assert relative_error(found, expected) < 1e-5


@KERNELS
@pytest.mark.parametrize("memory_budget", [0, 2**20])
def test_compiled_agrees_with_plain(kernel: ElementwiseKernel, memory_budget: int) -> None:
    """Also where logits are computed twice, and with more features than one chunk on either side."""
    exact, single = (Problem(kernel, 40, 7, dtype) for dtype in (torch.float64, torch.float32))
    chances = torch.linspace(0.1, 0.6, 40)
    sample = FeatureSample.draw(chances, torch.Generator().manual_seed(1))
    expected = exact.run(sample, ChunkOptions(chunk_size=5), n_draws=3)
    for compiled in (True, False):
        options = ChunkOptions(chunk_size=5, compiled=compiled, memory_budget=memory_budget)
        for found, right in zip(single.run(sample, options, n_draws=3), expected, strict=True):
            assert relative_error(found.double(), right) < 2e-5


@KERNELS
def test_rounded_products_agree_with_exact_ones(kernel: ElementwiseKernel) -> None:
    problem = Problem(kernel, 300, 20, torch.float32)
    sample = FeatureSample.draw(torch.full((300,), 0.3), torch.Generator().manual_seed(1))
    expected = problem.run(sample, ChunkOptions(compiled=True))
    found = problem.run(sample, ChunkOptions(compiled=True, product_dtype=torch.bfloat16))
    for rounded, right in zip(found, expected, strict=True):
        assert relative_error(rounded, right) < 0.03


def test_what_is_known_of_the_total_is_taken_out() -> None:
    """A Poisson's slope by the logit is then exact at every drawn feature, whatever the others."""
    problem = Problem(PoissonKernel(), 12, 5)
    _, _, _, _, by_bias = problem.run(None, SLOW)
    sample = FeatureSample(torch.tensor([2, 7, 8]), 12, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64))
    _, _, _, _, estimated = problem.run(sample, SLOW)
    expected = torch.zeros(12, dtype=torch.float64)
    assert sample.chances is not None
    expected[sample.features] = by_bias[sample.features] / sample.chances
    torch.testing.assert_close(estimated, expected)


def test_row_sums() -> None:
    dense = torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(SparseRows.from_dense(dense).row_sums(), dense.sum(1))


def test_what_cannot_be_estimated() -> None:
    draws, weight, bias = torch.ones(1, 4, 2), torch.ones(3, 2), torch.ones(3)
    data, depth = SparseRows.from_dense(torch.ones(4, 3)), torch.ones(4)
    whole = WholeLayer(torch.ones(6, 2), torch.ones(6), torch.ones(4))
    without, beside = DrawnFeatures(torch.ones(3)), DrawnFeatures(torch.ones(3), whole)
    with pytest.raises(InputError, match="BernoulliKernel has no shares among features: whole=None"):
        fused_log_likelihoods(BernoulliKernel(), draws, weight, bias, data, drawn=beside)
    with pytest.raises(InputError, match="PoissonKernel needs the layer they were drawn from"):
        fused_log_likelihoods(PoissonKernel(), draws, weight, bias, data, depth=depth, drawn=without)
    few = DrawnFeatures(torch.ones(2))
    with pytest.raises(InputError, match="chances of 2 features, and weight has 3 rows"):
        fused_log_likelihoods(BernoulliKernel(), draws, weight, bias, data, drawn=few)
