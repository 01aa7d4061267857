"""Values at levels and levels of values, against scipy and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from multiomics_vae.analysis.levels import BinaryLevels, RankedDraws


def ranked(draws: np.ndarray, is_discrete: bool = False, lowest: float = -np.inf) -> RankedDraws:
    """From draws ``(B, G, S)``."""
    sd = np.maximum(draws.std(-1, ddof=1), 1e-6)
    return RankedDraws(np.sort(draws, -1), sd, is_discrete, lowest, np.inf)


@pytest.mark.parametrize("n_draws", [19, 100])
@pytest.mark.parametrize("kind", ["normal", "sparse counts", "large counts", "codes"])
def test_levels_are_uniform_where_values_and_draws_are_alike(kind: str, n_draws: int) -> None:
    rng = np.random.default_rng(0)
    shape = (4_000, 5, n_draws + 1)
    made = {
        "normal": lambda: rng.normal(size=shape) * 3.0 + rng.normal(size=(4_000, 5, 1)),
        "sparse counts": lambda: rng.poisson(0.05, shape),
        "large counts": lambda: rng.negative_binomial(2.0, 0.01, shape),
        "codes": lambda: rng.integers(0, 3, shape),
    }
    both = made[kind]().astype(np.float64)
    levels = ranked(both[..., 1:], kind != "normal", -np.inf if kind == "normal" else 0.0)
    score = levels.score(both[..., 0], rng.random((4_000, 5)))
    inside = np.abs(score) < -levels.edge
    # Between the outermost draws levels are ranks, and uniform; beyond lies the share that should.
    uniform = (ndtr(score[inside]) * (n_draws + 1) - 1) / (n_draws - 1)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert inside.mean() == pytest.approx((n_draws - 1) / (n_draws + 1), abs=0.012)


def test_binary_levels_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((20_000, 3)) ** 4
    levels = BinaryLevels(p)
    score = levels.score((rng.random(p.shape) < p).astype(float), rng.random(p.shape))
    assert stats.kstest(ndtr(score).ravel(), "uniform").pvalue > 1e-3
    for level in (0.05, 0.5, 0.95):
        np.testing.assert_array_equal(levels.value(ndtri(level)), stats.bernoulli.ppf(level, p))


def test_values_of_many_draws_are_the_quantiles() -> None:
    rng = np.random.default_rng(0)
    normal = ranked(rng.normal(2.0, 3.0, (1, 1, 100_000)))
    counts = ranked(rng.poisson(7.0, (1, 1, 100_000)).astype(float), True, 0.0)
    for level in (0.001, 0.05, 0.5, 0.95, 0.999):
        assert normal.value(ndtri(level))[0, 0] == pytest.approx(stats.norm.ppf(level, 2.0, 3.0), abs=0.3)
        assert counts.value(ndtri(level))[0, 0] == stats.poisson.ppf(level, 7.0)


@pytest.mark.parametrize("is_discrete", [False, True])
def test_a_value_at_a_level_has_that_level(is_discrete: bool) -> None:
    rng = np.random.default_rng(0)
    draws = rng.poisson(20.0, (3, 4, 50)).astype(float) if is_discrete else rng.normal(size=(3, 4, 50))
    levels = ranked(draws, is_discrete)
    found = np.stack([levels.value(score) for score in np.linspace(-6, 6, 49)])
    assert (np.diff(found, axis=0) >= 0).all()
    for score in (-5.0, -3.0, 3.0, 5.0):  # beyond the draws
        value = levels.value(score)
        low, high = (levels.score(value, np.full(value.shape, u)) for u in (0.0, 1.0))
        step = 1.0 / levels.sd if is_discrete else 1e-4
        assert (low <= score + 1e-4).all()
        assert (high >= score - step).all()
    if is_discrete:
        np.testing.assert_array_equal(found, np.round(found))


def test_values_stay_where_x_can_be() -> None:
    draws = np.array([[[0.0, 1.0, 2.0, 9.0]]])
    assert ranked(draws, True, 0.0).value(-8.0)[0, 0] == 0.0
    bounded = RankedDraws(np.array([[[0.1, 0.9, 0.95]]]), np.array([[0.4]]), False, 0.0, 1.0)
    assert bounded.value(6.0)[0, 0] == 1.0
    assert bounded.value(-6.0)[0, 0] == 0.0


def test_a_value_far_out_keeps_its_distance() -> None:
    """Where ranks say only "beyond all draws", the score tells how far."""
    levels = ranked(np.random.default_rng(0).normal(size=(1, 1, 100)))
    near, far = (float(levels.score(np.array([[x]]), np.array([[0.5]]))[0, 0]) for x in (4.0, 8.0))
    assert far - near == pytest.approx(4.0 / levels.sd[0, 0])
