"""The posterior predictive: exact in a linear model, a function of cell, seed, sample and feature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import (
    data_of,
    linear_module,
    mixed_data,
    module_for,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from multiomics_vae.analysis import predictive
from multiomics_vae.analysis.depth import DepthModel, fit_depth
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.predictive import PredictiveBlock, predicted_cells, predictive_blocks
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

EVERYONE = np.arange(30)
WIDTHS = (12, 15, 5)
MODALITIES = pytest.mark.parametrize("modality", [0, 1, 2])


def blocks(
    module: MultimodalModule,
    data: MultimodalData,
    modality: int,
    *,
    cells: np.ndarray = EVERYONE,
    features: np.ndarray | None = None,
    batches: tuple[int, ...] | None = None,
    n_samples: int = 20,
    depth: DepthModel | None = None,
    given: tuple[int, ...] | None = None,
    batch_size: int = 30,
    seed: int = 0,
) -> list[PredictiveBlock]:
    wanted = np.arange(WIDTHS[modality]) if features is None else features
    found = predictive_blocks(
        module, data, cells, batch_size, modality, wanted, batches, n_samples, depth, given, seed
    )
    return list(found)


def draws(*arguments: object, **choices: object) -> np.ndarray:
    return np.concatenate([block.draws for block in blocks(*arguments, **choices)], axis=1)


def some_depth(module: MultimodalModule, data: MultimodalData, modality: int) -> DepthModel:
    direction = Direction(modality, others(modality))
    return fit_depth(module, data, np.arange(data.n_cells), 64, direction)


def others(modality: int) -> tuple[int, ...]:
    return tuple(m for m in range(3) if m != modality)


# In the linear-Gaussian model p(x_B | x_A) is known


def test_mean_and_variance_are_those_of_the_linear_gaussian_model() -> None:
    """x_B | x_A ~ N(b_B + W_B m, W_B V W_Bᵀ + σ_B² I), with z | x_A ~ N(m, V) exact."""
    rng = np.random.default_rng(0)
    n, k, widths = 25, 2, (6, 6)
    # Orthogonal columns, so that the exact posterior is diagonal.
    first = np.linalg.qr(rng.normal(size=(widths[0], k)))[0] * np.array([2.0, 1.2])
    second = rng.normal(size=(widths[1], k))
    z = rng.normal(size=(n, k))
    values = [z @ first.T + 1.0 + 0.7 * rng.normal(size=(n, 6)), z @ second.T + rng.normal(size=(n, 6))]
    data = data_of([table(each) for each in values], ["gaussian", "gaussian"])
    module = linear_module(data, k)
    set_linear_gaussian(module, 0, first, np.full(6, 1.0), 0.49)
    set_linear_gaussian(module, 1, second, np.full(6, 0.3), 0.25)
    weight = (first / np.square(first).sum(0)).T  # (K, 6)
    precision = np.square(first).sum(0) / 0.49  # (K,)
    set_linear_expert(module, 0, weight, -weight @ np.full(6, 1.0), precision)
    module.eval()
    variance = 1.0 / (1.0 + precision)
    exact_z = (values[0] - 1.0) @ first / 0.49 * variance  # (n, K)
    mean = exact_z @ second.T + 0.3
    covariance = second @ np.diag(variance) @ second.T + 0.25 * np.eye(6)
    everything = np.arange(6)
    found = list(predicted_cells(module, data, np.arange(n), 25, 1, everything, None, 4_000, None, (0,), 0))
    got = np.concatenate([block.mean for block in found])
    error = np.sqrt(np.diag(second @ np.diag(variance) @ second.T) / 4_000)
    assert (np.abs(got - mean) < 5 * error).all()
    sd = np.concatenate([block.sd for block in found])
    np.testing.assert_allclose(sd, np.broadcast_to(np.sqrt(np.diag(covariance)), sd.shape), rtol=0.05)
    sample = np.concatenate([block.draws() for block in found], axis=1)  # (S, n, 6)
    np.testing.assert_allclose(sample.mean(0), mean, atol=5 * np.sqrt(np.diag(covariance).max() / 4_000))
    of_draws = np.mean([np.cov(sample[:, cell].T) for cell in range(n)], axis=0)
    np.testing.assert_allclose(of_draws, covariance, atol=0.03 * covariance.max())


# Nothing of the target is read


def with_part(data: MultimodalData, modality: int, part: ModalityData) -> MultimodalData:
    parts = list(data.modalities)
    parts[modality] = part
    return replace(data, modalities=tuple(parts))


def with_other_target(data: MultimodalData, modality: int) -> MultimodalData:
    """The same cells with other values, and more depth, in one modality."""
    part = data.modalities[modality]
    values = part.values.copy()
    if modality == 2:
        values = values[::-1].copy()
    else:
        values.data = values.data + 7.0
    changed = replace(part, values=values, depth=part.depth * 5.0)
    return replace(
        data, modalities=tuple(changed if m == modality else p for m, p in enumerate(data.modalities))
    )


def without(data: MultimodalData, modality: int) -> MultimodalData:
    part = data.modalities[modality]
    gone = replace(part, row_of_cell=np.full_like(part.row_of_cell, -1))
    return replace(
        data, modalities=tuple(gone if m == modality else p for m, p in enumerate(data.modalities))
    )


@MODALITIES
@pytest.mark.parametrize("fusion", ["product", "gated", "mixture_of_products"])
def test_nothing_of_the_target_is_read(modality: int, fusion: str) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion)
    depth = some_depth(module, data, modality)
    cells = np.flatnonzero(data.present[:, list(others(modality))].any(1))
    asked = {"cells": cells, "depth": depth, "given": others(modality)}
    before = blocks(module, data, modality, **asked)
    for changed in (with_other_target(data, modality), without(data, modality)):
        for old, new in zip(before, blocks(module, changed, modality, **asked), strict=True):
            assert old.draws.tobytes() == new.draws.tobytes()
            assert old.means.tobytes() == new.means.tobytes()


@pytest.mark.parametrize("modality", [0, 1])
def test_denoising_reads_the_target_and_its_depth(modality: int) -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data)
    deeper = replace(
        data,
        modalities=tuple(
            replace(part, depth=part.depth * (3.0 if m == modality else 1.0))
            for m, part in enumerate(data.modalities)
        ),
    )
    before, after = (
        np.concatenate([block.means for block in blocks(module, each, modality, given=others(modality))], 1)
        for each in (data, deeper)
    )
    assert np.isfinite(before).all()
    if modality == 0:
        np.testing.assert_allclose(after, 3.0 * before, rtol=1e-5)  # a mean that is a share of the depth
    else:
        assert (after > before).all()


# A draw belongs to its cell


@MODALITIES
@pytest.mark.parametrize("predicted", [True, False])
def test_a_draw_depends_on_cell_seed_number_and_feature_only(modality: int, predicted: bool) -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data)
    depth = some_depth(module, data, modality) if predicted else None
    asked = {"depth": depth, "given": others(modality) if predicted else None}
    whole = draws(module, data, modality, **asked)
    order = np.random.default_rng(0).permutation(30)[:11]
    for batch_size in (1, 4):
        for features in (np.array([3, 1]), np.arange(WIDTHS[modality])):
            some = draws(
                module,
                data,
                modality,
                cells=order,
                features=features,
                n_samples=8,
                batch_size=batch_size,
                **asked,
            )
            np.testing.assert_allclose(some, whole[:8, order][:, :, features], rtol=1e-4, atol=1e-4)
    assert not np.array_equal(draws(module, data, modality, seed=1, **asked), whole)


def test_the_own_depth_of_a_cell_that_was_not_measured_is_refused() -> None:
    data = mixed_data(30)
    with pytest.raises(InputError, match=r"cells were not measured in the modality.*depth=fit_depth\("):
        blocks(module_for(data), data, 0)


def test_a_depth_that_was_learned_from_other_modalities_is_refused() -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data)
    depth = some_depth(module, data, 0)
    with pytest.raises(
        InputError, match=r"learned from the modalities \(1, 2\), and \(1,\) are given.*fit_depth"
    ):
        blocks(module, data, 0, depth=depth, given=(1,))


def test_blocks_are_small_where_much_is_asked_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data)
    whole = draws(module, data, 0)
    monkeypatch.setattr(predictive, "ENTRIES_AT_ONCE", 3 * 20 * 12)
    found = blocks(module, data, 0)
    assert [len(block.cells) for block in found] == [3] * 10
    np.testing.assert_array_equal(np.concatenate([block.cells for block in found]), EVERYONE)
    np.testing.assert_allclose(np.concatenate([block.draws for block in found], axis=1), whole, atol=1e-4)


@MODALITIES
def test_draws_have_the_mean_and_standard_deviation_that_are_stated(modality: int) -> None:
    data = mixed_data(200, missing=0.0)  # enough to know a depth by
    module = module_for(data)
    depth = some_depth(module, data, modality)
    features = np.arange(WIDTHS[modality])
    (block,) = predicted_cells(
        module, data, np.arange(12), 12, modality, features, None, 4_000, depth, others(modality), 0
    )
    sample = block.draws()
    assert (np.abs(sample.mean(0) - block.mean) < 5.5 * block.sd / np.sqrt(4_000)).all()
    np.testing.assert_allclose(sample.std(0), block.sd, rtol=0.25)
    np.testing.assert_allclose((sample.std(0) / block.sd).mean(), 1.0, atol=0.02)


def test_several_batches_take_turns() -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data)
    apart = [draws(module, data, 2, batches=(code,), n_samples=6) for code in (0, 1)]
    both = draws(module, data, 2, batches=(0, 1), n_samples=6)
    np.testing.assert_allclose(both[0::2], apart[0][0::2], rtol=1e-5)
    np.testing.assert_allclose(both[1::2], apart[1][1::2], rtol=1e-5)


def test_the_module_and_torch_are_left_as_they_were() -> None:
    data = mixed_data(30, missing=0.0)
    module = module_for(data).train()
    state = torch.get_rng_state()
    blocks(module, data, 0)
    assert module.training
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.is_inference_mode_enabled()
