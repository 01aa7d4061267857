"""Coverage of intervals on cells that the model itself made, and on those of an overconfident one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.special import ndtr, ndtri

from handmade_models import (
    data_of,
    linear_module,
    module_for,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from multiomics_vae.analysis.calibration import Calibration, LevelMap
from multiomics_vae.analysis.coverage import cells_for, directions, interval_coverage, pooled_scores
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.measured import measured_values
from multiomics_vae.analysis.predictive import predictive_blocks
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.likelihoods import LIKELIHOODS, CellContext
from multiomics_vae.module import MultimodalModule

N, F = 500, 6
IMPUTE = Direction(1, (0,))


@dataclass(frozen=True)
class Truth:
    module: MultimodalModule
    data: MultimodalData
    depth: DepthModel


def made_by_the_model(likelihood: str, seed: int = 0) -> Truth:
    """z ~ N(0, I); x_A linear-Gaussian with its exact posterior as expert; x_B from the likelihood at z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, 2)).astype(np.float32)
    loadings = np.linalg.qr(rng.normal(size=(F, 2)))[0] * 1.5
    first = z @ loadings.T + 0.8 * rng.normal(size=(N, F))
    support = LIKELIHOODS[likelihood].support
    coverage = rng.poisson(6.0, (N, F)) if support == "fractions" else None
    depth = np.exp(rng.normal(3.0, 0.5, N))
    sparse = support in ("counts", "binary")
    start = {
        "counts": lambda: rng.poisson(3.0, (N, F)),
        "binary": lambda: rng.random((N, F)) < 0.3,
        "real": lambda: rng.normal(2.0, 1.5, (N, F)),
        "codes": lambda: rng.integers(0, 3, (N, F)),
        "fractions": lambda: rng.binomial(coverage, 0.4),
    }[support]()
    kinds = ["gaussian", likelihood]
    data = data_of([table(first), table(start, coverage=coverage, depth=depth, sparse=sparse)], kinds)
    module = module_for(data, n_latent=2, n_hidden=F)
    module.modalities[0] = linear_module(data_of([table(first)], ["gaussian"]), 2).parts[0]
    set_linear_gaussian(module, 0, loadings, np.zeros(F), 0.64)
    weight = (loadings / np.square(loadings).sum(0)).T
    set_linear_expert(module, 0, weight, np.zeros(2), np.square(loadings).sum(0) / 0.64)
    for layer in module.parts[1].decoder.last_layers:
        torch.nn.init.normal_(layer.weight, std=0.6, generator=torch.Generator().manual_seed(seed))
    trials = None if coverage is None else torch.from_numpy(coverage).float()
    cells = CellContext(torch.from_numpy(depth).float(), torch.zeros(N, dtype=torch.int64), trials)
    with torch.no_grad():
        outputs = module.parts[1].decoder(torch.from_numpy(z), torch.zeros(N, 0))
        x = module.likelihoods[1].sample(outputs, cells, torch.Generator().manual_seed(seed)).numpy()
    second = table(x, coverage=coverage, depth=depth, sparse=sparse)
    data = replace(data, modalities=(data.modalities[0], second))
    known = same_for_all(3.0, 0.5)
    return Truth(module.eval(), data, known)


def same_for_all(mean_log: float, sd: float) -> DepthModel:
    """A depth that z, of 2 dimensions, and the depth of the first modality say nothing of."""
    return DepthModel((0,), mean_log, torch.zeros(3), torch.zeros(3), sd)


def scores(truth: Truth, cells: np.ndarray | None = None, n_samples: int = 60) -> np.ndarray:
    chosen = np.arange(N) if cells is None else cells
    return pooled_scores(truth.module, truth.data, chosen, 250, IMPUTE, np.arange(F), n_samples, truth.depth)


def covered(found: np.ndarray, level: float = 0.9) -> float:
    return float((np.abs(ndtr(found) - 0.5) <= level / 2).mean())


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_ninety_per_cent_are_ninety_per_cent_of_what_the_model_made(likelihood: str) -> None:
    truth = made_by_the_model(likelihood)
    found = scores(truth)
    assert 0.88 <= covered(found) <= 0.92
    assert 0.46 <= covered(found, 0.5) <= 0.54
    below = (ndtr(found) < 0.5).mean()
    assert 0.46 <= below <= 0.54


def library_coverage(truth: Truth, depth: DepthModel) -> float:
    """Share of cells whose total count lies in the central 90 % of the totals of their draws."""
    everyone = np.arange(N)
    found = predictive_blocks(
        truth.module, truth.data, everyone, 250, 1, np.arange(F), None, 60, depth, (0,), 0
    )
    totals = np.concatenate([block.draws.sum(-1) for block in found], axis=1)  # (S, N)
    own = measured_values(truth.data.modalities[1], everyone, np.arange(F)).sum(1)
    rank = (totals < own).sum(0) + 0.5 * ((totals == own).sum(0) + 1)
    return float((np.abs(rank / 61 - 0.5) <= 0.45).mean())


def test_libraries_are_covered_by_a_drawn_depth_and_not_by_a_constant_one() -> None:
    truth = made_by_the_model("poisson")
    constant = same_for_all(3.0 + 0.5 * 0.5**2, 1e-6)
    assert 0.86 <= library_coverage(truth, truth.depth) <= 0.94
    assert library_coverage(truth, constant) < 0.7


def overconfident(likelihood: str) -> Truth:
    """The same cells, and a model that believes in far less noise than made them."""
    truth = made_by_the_model(likelihood)
    target = truth.module.likelihoods[1]
    with torch.no_grad():
        if likelihood == "gaussian":
            target.learned.table.sub_(2.0 * np.log(3.0))  # a third of the standard deviation
        else:
            target.log_dispersion.table.add_(4.0)
            outputs = truth.module.parts[1].decoder.last_layers[0]
            outputs.weight.mul_(0.3)
    return truth


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_calibration_mends_an_overconfident_model(likelihood: str) -> None:
    truth = overconfident(likelihood)
    held_out, test = np.arange(0, N, 2), np.arange(1, N, 2)
    before = scores(truth, test)
    assert covered(before) < 0.85
    level_map = LevelMap.from_held_out(scores(truth, held_out))
    for level in (0.5, 0.8, 0.9, 0.95):
        assert covered(level_map.stated_score(before), level) == pytest.approx(level, abs=0.025)
    found = interval_coverage(
        truth.module, truth.data, test, 250, IMPUTE, np.arange(F), 60, truth.depth, level_map=level_map
    )
    assert found.loc[0.9, "model"] == pytest.approx(covered(before))
    assert 0.88 <= found.loc[0.9, "calibrated"] <= 0.92
    assert (found["n"] == len(test) * F).all()


def test_unmeasured_entries_do_not_count() -> None:
    truth = made_by_the_model("gaussian")
    part = truth.data.modalities[1]
    observed = np.random.default_rng(0).random(part.values.shape) < 0.5
    holed = replace(part, values=np.where(observed, part.values, 1e6).astype(np.float32), observed=observed)
    found = scores(replace(truth, data=replace(truth.data, modalities=(truth.data.modalities[0], holed))))
    assert len(found) == observed.sum()
    assert 0.87 <= covered(found) <= 0.93


def test_a_level_map_of_a_right_model_changes_nothing() -> None:
    level_map = LevelMap.from_held_out(np.random.default_rng(0).normal(size=200_000))
    for score in (-4.0, -1.6, 0.0, 1.3, 3.5):
        assert level_map.model_score(score) == pytest.approx(score, abs=0.06)
    many = np.linspace(-4, 4, 33)
    np.testing.assert_allclose(level_map.stated_score(many), many, atol=0.06)


def test_a_level_map_and_its_inverse() -> None:
    level_map = LevelMap.from_held_out(3.0 * np.random.default_rng(0).normal(size=5_000) + 0.5)
    many = np.linspace(-3.5, 3.5, 29)
    there = np.array([level_map.model_score(score) for score in many])
    assert (np.diff(there) > 0).all()
    np.testing.assert_allclose(level_map.stated_score(there), many, atol=1e-9)


def test_ranks_are_those_of_split_conformal_prediction() -> None:
    """With 19 held-out values the interval of level 0.9 reaches from the lowest to the highest."""
    held_out = np.arange(19.0)
    level_map = LevelMap.from_held_out(held_out)
    assert level_map.model_score(ndtri(0.05)) == 0.0
    assert level_map.model_score(ndtri(0.95)) == 18.0
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(4_000):
        values = rng.exponential(size=20)
        once = LevelMap.from_held_out(values[:-1])
        low, high = (once.model_score(ndtri(level)) for level in (0.05, 0.95))
        inside.append(low <= values[-1] <= high)
    assert np.mean(inside) == pytest.approx(18 / 20, abs=0.02)


def test_a_calibration_is_its_tensors() -> None:
    rng = np.random.default_rng(0)
    maps = {direction: LevelMap(np.sort(rng.normal(size=199))) for direction in directions(3)}
    again = Calibration.from_tensors(Calibration(maps).to_tensors()).maps
    assert set(again) == set(maps)
    for direction, each in maps.items():
        np.testing.assert_array_equal(again[direction].scores, each.scores)


def test_directions() -> None:
    assert directions(1) == (Direction(0, None),)
    assert set(directions(2)) == {
        Direction(0, None), Direction(0, (1,)), Direction(1, None), Direction(1, (0,)),
    }  # fmt: skip
    assert len(directions(3)) == 3 * (1 + 3)
    assert len(directions(5)) == 5 * (1 + 4 + 1)


def test_cells_without_target_or_evidence_are_passed_over() -> None:
    present = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    parts = [table(np.ones((4, 2)), present[:, m]) for m in range(2)]
    data = data_of(parts, ["gaussian", "gaussian"])
    assert cells_for(data, np.array([3, 2, 1, 0]), IMPUTE).tolist() == [3, 0]
    assert cells_for(data, np.arange(4), Direction(1, None)).tolist() == [0, 2, 3]
