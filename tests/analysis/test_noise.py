"""The noise of a cell is random, its own, and the same wherever the cell stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.errors import InputError

NAMES = [f"AAACCTG-{i}" for i in range(60)]
N_DRAWS = 4000
# A correlation of n independent pairs lies below this in all but one of a million cases.
LARGEST_CORRELATION = 5.0 / np.sqrt(N_DRAWS)


def largest_off_diagonal(correlation: np.ndarray) -> float:
    return float(np.abs(correlation - np.eye(len(correlation))).max())


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_normal_numbers_are_normal(seed: int) -> None:
    draws = CellNoise(NAMES, seed).normal(500, 4).numpy().ravel()
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(draws)) < 0.05


@pytest.mark.parametrize("stream", [0, 1])
def test_uniform_numbers_are_uniform(stream: int) -> None:
    draws = CellNoise(NAMES, 0).uniform(500, 4, stream).ravel()
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert 0.0 < draws.min() < draws.max() < 1.0


def test_choices_are_uniform_and_apart_from_the_normal_numbers() -> None:
    noise = CellNoise(NAMES, 0)
    choice, normal = noise.choice(N_DRAWS).numpy(), noise.normal(N_DRAWS, 1).numpy()[..., 0]
    assert stats.kstest(choice.ravel(), "uniform").pvalue > 1e-3
    assert max(abs(np.corrcoef(choice[:, b], normal[:, b])[0, 1]) for b in range(60)) < LARGEST_CORRELATION


def test_a_choice_is_below_one_also_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CellNoise, "uniform", lambda *_, **__: np.full((3, 2, 1), 1.0 - 2.0**-40))
    choice = CellNoise(["a", "b"], 0).choice(3)
    assert choice.dtype == torch.float32
    assert float(choice.max()) < 1.0


def test_cells_are_independent() -> None:
    draws = CellNoise(NAMES, 0).normal(N_DRAWS, 1).numpy()[..., 0]  # (S, B)
    assert largest_off_diagonal(np.corrcoef(draws.T)) < LARGEST_CORRELATION
    assert largest_off_diagonal(np.corrcoef(draws.T**2)) < LARGEST_CORRELATION


def test_dimensions_and_samples_are_independent() -> None:
    draws = CellNoise([f"c{i}" for i in range(N_DRAWS)], 0).normal(6, 8).numpy()  # (S, B, K)
    flat = draws.transpose(1, 0, 2).reshape(N_DRAWS, 48)
    assert largest_off_diagonal(np.corrcoef(flat.T)) < LARGEST_CORRELATION
    pairs = stats.norm.cdf(flat[:, :2])
    counts, _, _ = np.histogram2d(pairs[:, 0], pairs[:, 1], bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_seeds_give_independent_numbers() -> None:
    draws = np.stack([CellNoise(["a"], seed).normal(N_DRAWS, 1).numpy().ravel() for seed in range(20)])
    assert largest_off_diagonal(np.corrcoef(draws)) < LARGEST_CORRELATION


def test_a_cell_keeps_its_numbers_in_any_company() -> None:
    everything = CellNoise(NAMES, 3)
    order = np.random.default_rng(0).permutation(60)[:23]
    part = CellNoise(np.array(NAMES, dtype=object)[order], 3)
    torch.testing.assert_close(part.normal(5, 4), everything.normal(5, 4)[:, order], rtol=0.0, atol=0.0)
    torch.testing.assert_close(part.choice(5), everything.choice(5)[:, order], rtol=0.0, atol=0.0)


def test_more_samples_begin_with_the_same_ones() -> None:
    noise = CellNoise(NAMES, 0)
    torch.testing.assert_close(noise.normal(3, 4), noise.normal(10, 4)[:3], rtol=0.0, atol=0.0)
    torch.testing.assert_close(noise.choice(3), noise.choice(10)[:3], rtol=0.0, atol=0.0)


def test_global_random_state_is_left_alone() -> None:
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    CellNoise(NAMES, 0).normal(3, 2)
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_no_cells_have_no_noise() -> None:
    assert CellNoise([], 0).normal(3, 2).shape == (3, 0, 2)


def test_numpy_seeds_are_seeds() -> None:
    torch.testing.assert_close(CellNoise(["a"], np.int64(7)).normal(2, 2), CellNoise(["a"], 7).normal(2, 2))


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "0", None])
def test_seeds_that_are_none_are_refused(seed: object) -> None:
    with pytest.raises(InputError, match="seed must be a whole number"):
        CellNoise(["a"], seed)  # type: ignore[arg-type]
