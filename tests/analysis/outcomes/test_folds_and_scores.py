"""Folds keep donors apart and outcomes even; scores of repeated folds and their comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from multiomics_vae.analysis.outcomes.folds import donor_folds, inner_split
from multiomics_vae.analysis.outcomes.measures import measures_of
from multiomics_vae.analysis.outcomes.out_of_fold import (
    OutOfFold,
    by_fold,
    difference,
    permutation_p_value,
    pooled,
    scored,
)
from multiomics_vae.errors import InputError


@pytest.mark.parametrize("n_folds", [3, 5, 17])
def test_every_donor_is_held_out_once_a_repeat_and_never_trained_on_then(n_folds: int) -> None:
    rng = np.random.default_rng(0)
    truth, known = rng.integers(2, size=20).astype(float), np.arange(20) != 4
    known[[7, 9]] = False
    folds = donor_folds("binary", truth, known, n_folds, 2, seed=1)
    n_repeats = 1 if n_folds == 17 else 2
    assert len(folds) == n_repeats * n_folds
    for repeat in range(n_repeats):
        held_out = np.concatenate([f.held_out for f in folds if f.repeat == repeat])
        np.testing.assert_array_equal(np.sort(held_out), np.flatnonzero(known))
    for fold in folds:
        assert not set(fold.training) & set(fold.held_out)
        assert {4, 7, 9} <= set(fold.training)
        assert len(fold.training) + len(fold.held_out) == 20


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_even_in_size_and_outcome(seed: int) -> None:
    truth = (np.arange(50) < 15).astype(float)
    for fold in donor_folds("binary", truth, np.ones(50, dtype=bool), 5, 2, seed):
        assert len(fold.held_out) == 10
        assert 2 <= truth[fold.held_out].sum() <= 4
    time = np.random.default_rng(seed).exponential(size=92)
    survival = np.stack([time, np.arange(92) < 34], axis=1)
    for fold in donor_folds("survival", survival, np.ones(92, dtype=bool), 5, 1, seed):
        assert 6 <= survival[fold.held_out, 1].sum() <= 8


def test_folds_follow_the_seed() -> None:
    truth, known = np.arange(12.0), np.ones(12, dtype=bool)
    one, two, other = (donor_folds("continuous", truth, known, 3, 2, seed) for seed in (0, 0, 1))
    assert all((a.held_out == b.held_out).all() for a, b in zip(one, two, strict=True))
    assert any((a.held_out != b.held_out).any() for a, b in zip(one, other, strict=True))
    assert any((a.held_out != b.held_out).any() for a, b in zip(one[:3], one[3:], strict=True))


def test_more_folds_than_donors_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"4 donors .* 5 folds. Take from 2 to 4: cross_validate\(..., n_folds=4\)"
    ):
        donor_folds("binary", np.zeros(6), np.arange(6) < 4, 5, 1, 0)


def test_the_inner_split_takes_known_donors_of_the_training_side() -> None:
    known = np.arange(20) != 3
    training = np.arange(16)
    inner = inner_split("binary", np.arange(20) % 2.0, known, training, 0.2, 0)
    assert len(inner) == 3
    assert set(inner) <= set(training) - {3}
    assert len(inner_split("binary", np.arange(20) % 2.0, known, training, 0.0, 0)) == 0


def _results(seed: int, signal: float, n: int = 60, n_repeats: int = 3) -> OutOfFold:
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 2).astype(np.float64)
    p = 1 / (1 + np.exp(-(signal * (2 * truth - 1) + rng.normal(size=(n_repeats, n)))))
    fold = np.tile(np.arange(n) // 2 % 5, (n_repeats, 1))
    return OutOfFold("binary", truth, np.stack([1 - p, p], axis=-1), fold)


def test_pooled_scores_are_means_over_repeats() -> None:
    results, measure = _results(0, 1.0), measures_of("binary")[0]
    expected = np.mean([measure.of(results.truth, results.predicted[r]) for r in range(3)])
    assert pooled(measure, results) == pytest.approx(expected)
    rows = by_fold(measure, results)
    assert len(rows) == 15
    assert {n for _, _, n, _ in rows} == {12}


def test_risks_of_different_folds_are_not_compared() -> None:
    """Each fold ranks perfectly on a scale of its own."""
    time = np.arange(1.0, 21.0)
    fold = np.arange(20) % 4
    risk = -time + 100.0 * fold
    results = OutOfFold("survival", np.stack([time, np.ones(20)], 1), risk[None, :, None], fold[None])
    (measure,) = measures_of("survival")
    assert pooled(measure, results) == 1.0
    assert measure.of(results.truth, results.predicted[0]) < 0.8


def test_signal_is_told_from_none_by_intervals_differences_and_permutations() -> None:
    good, none, measure = _results(1, 1.5), _results(2, 0.0), measures_of("binary")[0]
    rng = np.random.default_rng(0)
    found = scored(measure, good, rng, 0.95, 300)
    assert 0.5 < found.low < found.value < found.high <= 1.0
    gap = difference(measure, good, none, rng, 0.95, 300)
    assert gap.low > 0
    assert gap.value == pytest.approx(pooled(measure, good) - pooled(measure, none))
    assert permutation_p_value(measure, good, rng, 199) == pytest.approx(1 / 200)
    same = difference(measure, good, good, rng, 0.95, 50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_permutation_p_values_of_no_signal_are_uniform() -> None:
    measure = measures_of("binary")[2]
    p = [
        permutation_p_value(measure, _results(s, 0.0, 30, 1), np.random.default_rng(s), 39) for s in range(60)
    ]
    assert 0.0 < np.mean(np.array(p) <= 0.2) < 0.4


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'survival'"):
        measures_of("survivel")
