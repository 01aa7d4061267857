"""Small data of every kind of support, its statistics, and a likelihood made from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from multiomics_vae.likelihoods import LIKELIHOODS, CellContext, FeatureStatistics, Likelihood

N_CELLS = 600
N_BATCHES = 2
EVERY_LIKELIHOOD = [
    (name, dispersion) for name in LIKELIHOODS for dispersion in LIKELIHOODS[name].dispersions
]


@dataclass(frozen=True)
class Case:
    likelihood: Likelihood
    statistics: FeatureStatistics
    x: Tensor
    cells: CellContext

    def outputs(self, n_rows: int, scale: float = 1.0) -> tuple[Tensor, ...]:
        """Random outputs for ``n_rows`` cells, in the precision of the data."""
        generator = torch.Generator().manual_seed(7)
        return tuple(
            scale * torch.randn(n_rows, width, generator=generator).to(self.x.dtype)
            for width in self.likelihood.output_widths
        )

    def rows(self, n_rows: int) -> tuple[Tensor, CellContext]:
        return self.x[:n_rows], take_cells(self.cells, torch.arange(n_rows))

    def double(self) -> Case:
        coverage = None if self.cells.coverage is None else self.cells.coverage.double()
        cells = replace(self.cells, depth=self.cells.depth.double(), coverage=coverage)
        return replace(self, likelihood=self.likelihood.double(), x=self.x.double(), cells=cells)


def take_cells(cells: CellContext, index: Tensor) -> CellContext:
    coverage = None if cells.coverage is None else cells.coverage[index]
    return CellContext(cells.depth[index], cells.batch[index], coverage)


def repeat_cell(depth: float, n_rows: int, coverage: Tensor | None = None, batch: int = 0) -> CellContext:
    """The same cell ``n_rows`` times, in float64."""
    trials = None if coverage is None else coverage.double().expand(n_rows, -1)
    return CellContext(
        torch.full((n_rows,), depth, dtype=torch.float64), torch.full((n_rows,), batch), trials
    )


def simulate(support: str) -> tuple[Tensor, Tensor | None]:
    """Values ``(N, 4)`` and coverage; the last feature is never seen (or constant)."""
    generator = torch.Generator().manual_seed(3)
    size = torch.exp(0.2 * torch.randn(N_CELLS, 1, generator=generator))  # (N, 1)
    if support == "counts":
        rate = size * torch.tensor([0.5, 4.0, 30.0, 0.0])
        gamma = torch._standard_gamma(torch.full((N_CELLS, 4), 3.0), generator=generator) / 3.0
        return torch.poisson(rate * gamma, generator=generator), None
    if support == "binary":
        probability = torch.tensor([0.1, 0.5, 0.8, 0.0]).expand(N_CELLS, 4)
        return torch.bernoulli(probability, generator=generator), None
    if support == "real":
        noise = torch.randn(N_CELLS, 4, generator=generator)
        return torch.tensor([1.0, -2.0, 300.0, 5.0]) + torch.tensor([1.0, 0.1, 40.0, 0.0]) * noise, None
    if support == "codes":
        uniform = torch.rand(N_CELLS, 4, generator=generator)
        return (uniform * torch.tensor([3.0, 2.0, 4.0, 1.0])).floor(), None
    if support == "fractions":
        coverage = torch.poisson(torch.full((N_CELLS, 4), 3.0), generator=generator)
        fraction = torch.tensor([0.2, 0.7, 0.95, 0.0]).expand(N_CELLS, 4)
        return torch.binomial(coverage, fraction, generator=generator), coverage
    raise AssertionError(f"no data for support {support}")


def overdispersion(x: Tensor, depth: Tensor) -> Tensor:
    """1/θ by the method of moments given depth, written as its definition reads."""
    expected = depth.unsqueeze(1) * x.sum(0) / depth.sum()
    excess = ((x - expected).square() - x).sum(0)
    return (excess / expected.square().sum(0).clamp(min=1e-12)).clamp(min=0.0)


def summarise(x: Tensor, depth: Tensor, batch: Tensor, coverage: Tensor | None = None) -> FeatureStatistics:
    """Statistics of complete data, as registration makes them."""
    logs = [torch.log1p(x.clamp(min=0)[batch == code]) for code in range(N_BATCHES)]
    methylated = torch.zeros(x.shape[1])
    if coverage is not None:
        methylated = x.sum(0) / coverage.sum(0).clamp(min=1)
    return FeatureStatistics(
        n_features=x.shape[1],
        n_batches=N_BATCHES,
        mean=x.mean(0),
        variance=x.var(0, correction=0),
        nonzero_fraction=(x > 0).float().mean(0),
        mean_frequency=x.clamp(min=0).sum(0) / depth.sum(),
        overdispersion=overdispersion(x, depth),
        methylated_fraction=methylated,
        n_categories=x.amax(0).long() + 1,
        log1p_mean=torch.stack([log.mean(0) for log in logs]),
        log1p_sd=torch.stack([log.std(0) for log in logs]),
        mean_log_depth=float(depth.log().mean()),
    )


def make_case(name: str, dispersion: str, jitter: float = 0.0) -> Case:
    """A likelihood made from simulated data, its parameters moved off their start by ``jitter``."""
    x, coverage = simulate(LIKELIHOODS[name].support)
    depth = x.sum(1).clamp(min=1.0)
    batch = torch.arange(N_CELLS) % N_BATCHES
    statistics = summarise(x, depth, batch, coverage)
    likelihood = LIKELIHOODS[name](statistics, dispersion)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(jitter * torch.randn(parameter.shape, generator=generator))
    return Case(likelihood, statistics, x, CellContext(depth, batch, coverage))


def plain_statistics(**changes: Tensor | float | int) -> FeatureStatistics:
    """Statistics of three features of mean and variance 1, apart from the ``changes``."""
    n_features = int(changes.get("n_features", 3))
    ones = torch.ones(n_features)
    plain = FeatureStatistics(
        n_features=n_features,
        n_batches=N_BATCHES,
        mean=ones,
        variance=ones,
        nonzero_fraction=0.5 * ones,
        mean_frequency=ones / n_features,
        overdispersion=ones,
        methylated_fraction=0.5 * ones,
        n_categories=(3 * ones).long(),
        log1p_mean=ones.expand(N_BATCHES, -1),
        log1p_sd=0.5 * ones.expand(N_BATCHES, -1),
        mean_log_depth=0.0,
    )
    return replace(plain, **changes)
