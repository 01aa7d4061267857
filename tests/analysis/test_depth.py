"""Predicted depth: a regression whose truth is known, and what it does where cells lack something."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import linregress

from handmade_models import (
    data_of,
    linear_module,
    mixed_data,
    module_for,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from multiomics_vae.analysis.depth import (
    DepthModel,
    LearnedFrom,
    fit_depth,
    log_depths,
    ridge,
    warn_if_unlearned,
)
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.predictive import predictive_blocks
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError, MultiomicsWarning
from multiomics_vae.module import MultimodalModule

N = 3_000
IMPUTE = Direction(1, (0,))


def known_cells(
    noise: float, present: np.ndarray | None = None, seed: int = 1
) -> tuple[MultimodalModule, MultimodalData]:
    """log depth_1 = 2 + 0.6 log depth_0 + 0.8 z₁ + 0.3 ε, and q(z | x_0) exact: x_0 = W z + noise · ε."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, 2))
    loadings = np.linalg.qr(rng.normal(size=(5, 2)))[0]
    values = z @ loadings.T + noise * rng.normal(size=(N, 5))
    first = rng.normal(7.0, 0.5, N)
    second = 2.0 + 0.6 * first + 0.8 * z[:, 0] + 0.3 * rng.normal(size=N)
    here = np.ones((N, 2), dtype=bool) if present is None else present
    parts = [
        table(values, here[:, 0], depth=np.exp(first)),
        table(rng.normal(size=(N, 5)), here[:, 1], depth=np.exp(second)),
    ]
    data = data_of(parts, ["gaussian", "gaussian"])
    module = linear_module(data, 2)
    set_linear_gaussian(module, 0, loadings, np.zeros(5), noise**2)
    set_linear_expert(module, 0, loadings.T, np.zeros(2), np.full(2, noise**-2))
    return module.eval(), data


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_slopes_of_z_and_of_the_given_depth_are_found(noise: float) -> None:
    """On E[z | x_A] the slope is that on z; what is not known of z widens σ: 0.3² + 0.8² Var(z | x)."""
    module, data = known_cells(noise)
    found = fit_depth(module, data, np.arange(N), 512, IMPUTE)
    assert found.learned_from is LearnedFrom.ALL_GIVEN
    np.testing.assert_allclose(found.slope.numpy(), [0.8, 0.0, 0.6], atol=0.06)
    unknown = noise**2 / (1.0 + noise**2)
    assert found.sd == pytest.approx(np.sqrt(0.3**2 + 0.8**2 * unknown), rel=0.04)
    (first, *_) = infer(module, data, np.arange(N), 512, (0,))
    depths = log_depths(first.minibatch, (0,))  # (B, 1)
    mean_log = found.mean_log(module, first.fused.posterior.mean, first.minibatch.covariates, depths)
    part = data.modalities[1]
    own = np.log(part.depth[part.row_of_cell[:512]])
    line = linregress(mean_log.numpy(), own)  # it is E[log depth], so the line is y = x
    assert abs(line.slope - 1.0) < 4 * line.stderr
    assert abs((mean_log.numpy() - own).mean()) < 4 * found.sd / np.sqrt(512)
    np.testing.assert_allclose(
        found.expected(mean_log).numpy(), np.exp(mean_log.numpy() + 0.5 * found.sd**2), rtol=1e-5
    )


def test_expected_depth_is_the_mean_of_drawn_depths() -> None:
    depth = DepthModel((), 0.0, torch.zeros(0), torch.zeros(0), 0.5)
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    drawn = depth.at(torch.tensor(2.0), noise)
    assert float(drawn.mean()) == pytest.approx(float(depth.expected(torch.tensor(2.0))), rel=0.01)
    assert float(drawn.log().std()) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("n", [8, 60, 400])
def test_the_standard_deviation_is_the_error_on_other_cells(n: int) -> None:
    """25 inputs, one of them of use, also where cells are fewer than inputs."""
    rng = np.random.default_rng(0)
    stated, made = [], []
    for _ in range(200):
        x = rng.normal(size=(n + 100, 25))
        y = 0.5 * x[:, 0] + rng.normal(size=n + 100)
        slope, centre, sd = ridge(x[:n], y[:n])
        stated.append(sd**2)
        made.append(np.mean(np.square(y[n:] - y[:n].mean() - (x[n:] - centre) @ slope)))
    assert np.mean(stated) == pytest.approx(np.mean(made), rel=0.25 if n < 25 else 0.1)


def test_leaving_a_cell_out_is_done_in_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    x = (x - x.mean(0)) / x.std(0)
    errors = []
    for i in range(12):
        rest = np.arange(12) != i
        design = np.column_stack([np.ones(11), x[rest]])
        weights = np.linalg.solve(design.T @ design + np.diag([0.0, 1.0, 1.0, 1.0]), design.T @ y[rest])
        errors.append(y[i] - weights[0] - x[i] @ weights[1:])
    assert ridge(x, y)[2] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_what_does_not_vary_has_no_slope() -> None:
    rng = np.random.default_rng(0)
    x = np.hstack([rng.normal(size=(50, 1)), np.full((50, 1), 7.3)])
    slope, centre, _ = ridge(x, 2.0 * x[:, 0])
    assert slope[1] == 0.0
    np.testing.assert_allclose(centre, x.mean(0))


# Cells that lack something


def of_cells(
    depth: DepthModel, module: MultimodalModule, data: MultimodalData, cells: np.ndarray
) -> np.ndarray:
    found = []
    for inferred in infer(module, data, cells, 512, depth.given):
        depths = log_depths(inferred.minibatch, depth.given)
        middle = inferred.fused.posterior.mean
        found.append(depth.mean_log(module, middle, inferred.minibatch.covariates, depths).numpy())
    return np.concatenate(found)


def test_a_depth_that_a_cell_lacks_is_that_of_the_average_cell() -> None:
    data = mixed_data(200, seed=3)
    module = module_for(data)
    depth = fit_depth(module, data, np.arange(200), 64, Direction(2, (0, 1)))
    assert depth.learned_from is LearnedFrom.ALL_GIVEN
    lacking = np.flatnonzero(data.present[:, 0] & ~data.present[:, 1])
    usual = float(depth.centre[-1])
    (inferred,) = infer(module, data, lacking, 512, (0, 1))
    known = log_depths(inferred.minibatch, (0, 1))
    assert known[:, 1].isnan().all()
    assert not known[:, 0].isnan().any()
    filled = torch.stack([known[:, 0], torch.full((len(lacking),), usual)], dim=1)
    middle, covariates = inferred.fused.posterior.mean, inferred.minibatch.covariates
    one, other = (depth.mean_log(module, middle, covariates, each) for each in (known, filled))
    assert torch.equal(one, other)
    assert one.isfinite().all()
    both = data.present.all(1)
    part = data.modalities[1]
    assert usual == pytest.approx(np.log(part.depth[part.row_of_cell[both]]).mean(), rel=1e-5)


def test_cells_with_some_of_what_is_given_serve_where_none_has_all() -> None:
    data = mixed_data(200, seed=3)
    halves = np.arange(200) % 2 == 0
    present = np.stack([halves, ~halves, np.ones(200, dtype=bool)], axis=1)
    parts = [
        replace(p, row_of_cell=np.where(present[:, m], p.row_of_cell, -1))
        for m, p in enumerate(data.modalities)
    ]
    split = replace(data, modalities=tuple(parts))
    module = module_for(data)
    depth = fit_depth(module, split, np.arange(200), 64, Direction(2, (0, 1)))
    assert depth.learned_from is LearnedFrom.ANY_GIVEN
    assert np.isfinite(of_cells(depth, module, split, np.arange(200))).all()
    having = split.present[:, [0]].all(1)
    part = split.modalities[0]
    assert float(depth.centre[-2]) == pytest.approx(
        np.log(part.depth[part.row_of_cell[having & split.present[:, 2]]]).mean(), rel=1e-5
    )


def test_where_no_cell_has_both_only_covariates_are_used() -> None:
    """Batch 0 and batch 1 have other depths; z and the given depths must not be read."""
    rng = np.random.default_rng(0)
    batch = np.arange(60) % 3
    present = np.stack([batch == 2, batch < 2], axis=1)
    depth = np.exp(np.where(batch == 0, 3.0, 5.0) + 0.1 * rng.normal(size=60))
    parts = [
        table(rng.normal(size=(60, 4)), present[:, 0], depth=np.exp(rng.normal(size=60))),
        table(rng.poisson(3.0, (60, 6)), present[:, 1], depth=depth, sparse=True),
    ]
    data = data_of(parts, ["gaussian", "poisson"], batch=batch)
    module = module_for(data, n_latent=2)
    found = fit_depth(module, data, np.arange(60), 64, IMPUTE)
    assert found.learned_from is LearnedFrom.NONE_GIVEN
    assert (found.slope[:2] == 0).all()
    assert found.slope[-1] == 0
    lonely = np.flatnonzero(batch == 2)
    np.testing.assert_allclose(of_cells(found, module, data, lonely), 4.0, atol=0.1)  # of an unknown batch
    for code, mean in ((0, 3.0), (1, 5.0)):
        other = replace(data, batch=np.full(60, code))
        np.testing.assert_allclose(of_cells(found, module, other, lonely), mean, atol=0.12)
    with pytest.warns(
        MultiomicsWarning, match=r"Fewer than 3 .*'m1' together with any of \['m0'\].*get_normalized\('m1'"
    ):
        warn_if_unlearned(found, data.schema, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unlearned(replace(found, learned_from=LearnedFrom.ANY_GIVEN), data.schema, 1)


def test_a_depth_that_nobody_has_or_that_is_known_is_refused() -> None:
    data = mixed_data(30)
    gone = replace(data.modalities[0], row_of_cell=np.full(30, -1))
    without = replace(data, modalities=(gone, *data.modalities[1:]))
    module = module_for(data)
    with pytest.raises(InputError, match=r"depth of 'm0' must be learned.*MultiVAE\.load\(path, mdata\)"):
        fit_depth(module, without, np.arange(30), 30, Direction(0, (1, 2)))
    with pytest.raises(InputError, match="Denoising is at each cell's own depth"):
        fit_depth(module, data, np.arange(30), 30, Direction(0, None))


# What is read


def counts_from_values() -> tuple[MultimodalModule, MultimodalData]:
    """Counts whose depth goes with that of real values."""
    rng = np.random.default_rng(0)
    first = rng.normal(6.0, 0.5, 80)
    second = np.exp(1.0 + 0.5 * first + 0.2 * rng.normal(size=80))
    parts = [
        table(rng.normal(size=(80, 4)), depth=np.exp(first)),
        table(rng.poisson(3.0, (80, 6)), depth=second, sparse=True),
    ]
    data = data_of(parts, ["gaussian", "poisson"])
    return module_for(data, n_latent=2), data


def scaled(data: MultimodalData, modality: int, factor: float) -> MultimodalData:
    parts = list(data.modalities)
    parts[modality] = replace(parts[modality], depth=parts[modality].depth * np.float32(factor))
    return replace(data, modalities=tuple(parts))


def test_the_given_depth_moves_the_answer_by_its_slope_and_the_target_s_not_at_all() -> None:
    module, data = counts_from_values()
    depth = fit_depth(module, data, np.arange(80), 64, IMPUTE)
    assert float(depth.slope[-1]) == pytest.approx(0.5, abs=0.15)

    def answer(cells: MultimodalData) -> tuple[np.ndarray, np.ndarray]:
        found = predictive_blocks(module, cells, np.arange(80), 80, 1, np.arange(6), None, 30, depth, (0,), 0)
        (block,) = found
        return block.means, block.draws

    means, draws = answer(data)
    deeper, _ = answer(scaled(data, 0, 3.0))
    np.testing.assert_allclose(deeper, means * 3.0 ** float(depth.slope[-1]), rtol=1e-4)
    again = answer(scaled(data, 1, 3.0))
    assert again[0].tobytes() == means.tobytes()
    assert again[1].tobytes() == draws.tobytes()


def test_expected_depth_does_not_follow_the_draw_of_z() -> None:
    """Poisson means of all features add up to the depth: the same at every draw."""
    module, data = counts_from_values()
    depth = fit_depth(module, data, np.arange(80), 64, IMPUTE)
    (block,) = predictive_blocks(module, data, np.arange(80), 80, 1, np.arange(6), None, 30, depth, (0,), 0)
    totals = block.means.sum(-1)  # (S, N)
    assert np.ptp(block.means[:, 0], axis=0).max() > 0.01
    np.testing.assert_allclose(totals, np.broadcast_to(totals[0], totals.shape), rtol=1e-4)
