"""What a negative binomial cost says of a count alone, with and without the table of small counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

from multiomics_vae.kernels.compiled.negative_binomial import COUNTS_IN_TABLE, constant_terms, fill_table

N_FEATURES, N_ENTRIES = 300, 9_000  # more than two tiles, the last of them not full


def terms(
    values: NDArray[np.float32], columns: NDArray[np.int64], log_theta: NDArray[np.float32], with_table: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    theta = np.exp(log_theta)
    table = np.empty((2, COUNTS_IN_TABLE, len(theta) if with_table else 0), np.float32)
    if with_table:
        fill_table(log_theta, theta, table)
    cost, slope = np.empty_like(values), np.empty_like(values)
    constant_terms(values, columns, theta, table, cost, slope)
    return cost, slope


@pytest.mark.parametrize("with_table", [False, True])
def test_terms_are_those_of_scipy(with_table: bool) -> None:
    random = np.random.default_rng(0)
    log_theta = random.uniform(-8, 6, N_FEATURES).astype(np.float32)
    columns = random.integers(0, N_FEATURES, N_ENTRIES)
    values = random.poisson(random.choice([0.5, 3.0, 50.0], N_ENTRIES)).astype(np.float32)
    values[::50] += np.float32(0.25)  # no counts, but let through
    cost, slope = terms(values, columns, log_theta, with_table)
    x, theta = values.astype(float), np.exp(log_theta.astype(float))[columns]
    wanted = gammaln(x + 1) - gammaln(x + theta) + gammaln(theta)
    np.testing.assert_allclose(cost, wanted, rtol=1e-5, atol=1e-4)
    wanted = -theta * (digamma(x + theta) - digamma(theta))
    np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-5)


def test_the_table_says_what_is_computed_without_it() -> None:
    log_theta = np.linspace(-8, 12, N_FEATURES).astype(np.float32)
    for count in range(COUNTS_IN_TABLE + 1):
        values, columns = np.full(N_FEATURES, count, np.float32), np.arange(N_FEATURES)
        looked_up, computed = (terms(values, columns, log_theta, with_table) for with_table in (True, False))
        for one, other in zip(looked_up, computed, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("with_table", [False, True])
def test_what_is_no_count_stays_in_its_entry(with_table: bool) -> None:
    values, columns = np.array([1, np.nan, 1], np.float32), np.array([1, 1, 0])
    cost, slope = terms(values, columns, np.array([0.5, np.nan], np.float32), with_table)
    assert np.isnan(cost[:2]).all()
    assert np.isnan(slope[1])
    np.testing.assert_allclose((cost[2], slope[2]), (-0.5, -1.0), rtol=1e-5)
