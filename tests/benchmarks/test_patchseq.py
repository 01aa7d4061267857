"""Correlation with values that were not measured."""

from __future__ import annotations

import numpy as np
import pytest

from patchseq import FEWEST_CELLS, mean_pearson


def test_mean_pearson_reads_measured_entries_of_features_with_enough_cells() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(60, 4))
    truth = predicted + rng.normal(size=(60, 4))
    expected = np.mean([np.corrcoef(truth[10:, f], predicted[10:, f])[0, 1] for f in range(3)])
    truth[:10] = np.nan
    truth[FEWEST_CELLS + 9 :, 3] = np.nan  # one cell too few
    assert mean_pearson(truth, predicted) == pytest.approx(expected)


def test_a_prediction_that_says_nothing_counts_as_none() -> None:
    truth = np.random.default_rng(0).normal(size=(30, 1))
    assert mean_pearson(truth, np.ones((30, 1))) == 0.0
    assert mean_pearson(np.hstack([truth, np.ones((30, 1))]), np.hstack([truth, truth])) == pytest.approx(1.0)
