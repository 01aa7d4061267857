"""Entries hidden at random: how many, which, and what is left of the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import hide_entries
from multiomics_vae.kernels.hidden_entries import FEWEST_COMPILED

N = 2**19
WIDTH = 5.0  # standard errors


@pytest.fixture(autouse=True)
def own_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def shown(share: float, n: int = N) -> np.ndarray:
    return (hide_entries(torch.ones(n), share) > 0).numpy()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_the_stated_share_is_hidden(share: float) -> None:
    error = np.sqrt(share * (1.0 - share) / N)
    assert abs((1.0 - shown(share).mean()) - share) < WIDTH * error


@pytest.mark.parametrize("n", [100, N])
def test_the_others_are_scaled_and_keep_their_order(n: int) -> None:
    values = torch.randn(n)
    found = hide_entries(values, 0.2)
    kept = found != 0
    assert 0 < int(kept.sum()) < n
    torch.testing.assert_close(found[kept], values[kept] / 0.8)


@pytest.mark.parametrize("lag", [1, 2, 16, 128, 2300, 2**16])
def test_neighbours_are_independent(lag: int) -> None:
    mask = shown(0.2).astype(float)
    assert abs(np.corrcoef(mask[lag:], mask[:-lag])[0, 1]) < WIDTH / np.sqrt(N - lag)


def test_calls_are_independent() -> None:
    first, second = shown(0.2).astype(float), shown(0.2).astype(float)
    assert abs(np.corrcoef(first, second)[0, 1]) < WIDTH / np.sqrt(N)


def test_the_number_hidden_in_runs_is_binomial() -> None:
    # A generator that spreads its zeros too evenly, or in clumps, has another variance.
    counts = shown(0.2).reshape(-1, 256).sum(1)  # (2048,)
    expected = 256 * 0.2 * 0.8
    assert abs(counts.var() / expected - 1.0) < WIDTH * np.sqrt(2.0 / len(counts))


def test_each_entry_is_hidden_at_the_same_rate() -> None:
    n, n_calls = FEWEST_COMPILED, 200
    rates = np.mean([shown(0.2, n) for _ in range(n_calls)], 0)  # (n,)
    assert abs(rates.var() / (0.16 / n_calls) - 1.0) < WIDTH * np.sqrt(2.0 / n)


def test_only_the_generator_decides() -> None:
    values, threads = torch.randn(N), torch.get_num_threads()
    state = torch.get_rng_state()
    once = hide_entries(values, 0.3)
    torch.set_rng_state(state)
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again = hide_entries(values, 0.3)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(once, again, rtol=0.0, atol=0.0)
    assert not torch.equal(once, hide_entries(values, 0.3))


def test_nothing_hidden_is_the_same_tensor() -> None:
    values = torch.randn(4)
    assert hide_entries(values, 0.0) is values


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(InputError, match="below 1"):
        hide_entries(torch.ones(3), share)
