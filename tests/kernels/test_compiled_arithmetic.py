"""Polynomials and bit patterns of the compiled loops against the functions they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch

from multiomics_vae.kernels.compiled import arithmetic, bits
from multiomics_vae.kernels.compiled.compile import compiled_loop
from multiomics_vae.kernels.compiled.places import find_places, first_at
from multiomics_vae.kernels.compiled.rising_factorial import log_rising_factorial

Array = np.ndarray[Any, Any]


def each(formula: Any) -> Callable[[Array], Array]:
    """Apply a formula to every entry, in a loop as it is used."""

    @compiled_loop
    def loop(x: Array, out: Array) -> None:
        for i in range(len(x)):
            out[i] = formula(x[i])

    def run(x: Array) -> Array:
        out = np.empty_like(x)
        loop(x, out)
        return out

    return run


def relative(found: Array, expected: Array) -> float:
    return float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-300)))


def test_exponential() -> None:
    x = np.concatenate([-np.geomspace(1e-30, 86.9, 100_000), np.geomspace(1e-30, 88.0, 100_000), [0.0]])
    single = x.astype(np.float32)
    assert relative(each(arithmetic.exp_of)(single), np.exp(single.astype(float))) < 2e-7
    low = each(arithmetic.exp_of)(np.array([-87.5, -1e30, -np.inf], np.float32))
    assert np.all((low > 0) & (low < 2e-38))


def test_logarithms() -> None:
    positive = np.geomspace(1e-37, 1e38, 200_000).astype(np.float32)
    expected = np.log(positive.astype(float))
    found = each(arithmetic.log_of)(positive)
    assert float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 0.1))) < 2e-7
    upward = np.concatenate([[0.0], np.geomspace(1e-37, 1e38, 200_000)]).astype(np.float32)
    assert relative(each(arithmetic.log_of_one_more)(upward), np.log1p(upward.astype(float))) < 3e-7
    share = np.concatenate([[0.0], np.geomspace(1e-37, 1.0, 200_000)]).astype(np.float32)
    assert relative(each(arithmetic.log_of_one_to_two)(share), np.log1p(share.astype(float))) < 3e-7


@pytest.mark.parametrize("name", ["exp_of", "log_of_one_more", "log_of_one_to_two"])
def test_not_a_number_stays_one(name: str) -> None:
    found = each(getattr(arithmetic, name))(np.full(40, np.nan, np.float32))
    assert np.all(np.isnan(found))


def test_rising_factorial_is_that_of_scipy() -> None:
    count, base = np.meshgrid([0, 1, 2, 7, 2.5, 1000, 1e5], [1e-6, 1e-3, 0.3, 1, 5, 40, 3e3], indexing="ij")
    k, a = count.reshape(-1).astype(np.float32), base.reshape(-1).astype(np.float32)
    value, slope = np.empty_like(k), np.empty_like(k)

    @compiled_loop
    def loop(k: Array, a: Array, value: Array, slope: Array) -> None:
        for i in range(len(k)):
            value[i], slope[i] = log_rising_factorial(k[i], a[i])

    loop(k, a, value, slope)
    k, a = k.astype(float), a.astype(float)
    expected = scipy.special.gammaln(a + k) - scipy.special.gammaln(a)
    expected_slope = a * (scipy.special.digamma(a + k) - scipy.special.digamma(a))
    np.testing.assert_allclose(value, expected, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(slope, expected_slope, rtol=3e-6, atol=3e-6)


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(4096, generator=generator) * torch.logspace(-30, 30, 4096)
    ties = torch.tensor([1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, 0.0, -0.0, float("inf"), -float("inf")])
    single = torch.cat([numbers, ties])
    half = torch.empty(len(single), dtype=torch.bfloat16)
    back = torch.empty(len(single))

    @compiled_loop
    def loop(x: Array, out: Array, again: Array) -> None:
        for i in range(len(x)):
            out[i] = bits.narrowed(x[i], out)
            again[i] = bits.widened(out[i])

    loop(single.numpy(), half.view(torch.uint16).numpy(), back.numpy())
    assert torch.equal(half, single.bfloat16())
    assert torch.equal(back, single.bfloat16().float())


@pytest.mark.parametrize("feature", range(9))
def test_first_entry_of_a_feature(feature: int) -> None:
    columns = np.array([0, 3, 4, 7, 1, 2], np.int64)
    assert first_at(columns, 0, 4, feature) == np.searchsorted(columns[:4], feature)
    assert first_at(columns, 4, 4, feature) == 4


def test_places_of_chunks() -> None:
    pointers, columns = np.array([0, 4, 4, 6]), np.array([0, 3, 4, 7, 1, 2], np.int64)
    edges, places = np.array([0, 4, 5, 8]), np.empty((3, 4), np.int64)
    find_places(pointers, columns, edges, places)
    assert places.tolist() == [[0, 2, 3, 4], [4, 4, 4, 4], [4, 6, 6, 6]]
