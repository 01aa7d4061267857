"""Products of float32 matrices by oneDNN: the numbers of MKL, whatever the strides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multiomics_vae.kernels import products
from multiomics_vae.kernels.products import has_wide_products, product_with_transposed


def matrix(n: int, m: int, layout: str, seed: int) -> Tensor:
    made = torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
    if layout == "transposed":
        return made.t().contiguous().t()
    if layout == "part":
        wide = torch.zeros(2 * n, m + 3)
        wide[::2, 1 : m + 1] = made
        return wide[::2, 1 : m + 1]
    return made


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("left", ["rows", "transposed", "part"])
@pytest.mark.parametrize("right", ["rows", "transposed", "part"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (65, 128, 33)])
def test_agrees_with_float64(
    shape: tuple[int, int, int], left: str, right: str, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide and not has_wide_products():
        pytest.skip("needs AVX-512")
    monkeypatch.setattr(products, "has_wide_products", lambda: wide)
    n, m, k = shape
    a, b = matrix(n, k, left, 0), matrix(m, k, right, 1)
    kept = a.clone(), b.clone()
    found = product_with_transposed(a, b)
    assert found.shape == (n, m)
    exact = a.double() @ b.double().t()
    scale = a.double().abs() @ b.double().abs().t()
    assert bool(((found.double() - exact).abs() <= 1e-6 * scale + 1e-30).all())
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])


def test_the_result_may_be_written_to() -> None:
    a = torch.ones(4, 3)
    found = product_with_transposed(a, a)
    found.numpy()[:] = 7.0
    assert torch.equal(product_with_transposed(a, a), torch.full((4, 4), 3.0))


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise AttributeError("no such operation")

    monkeypatch.setattr(products, "_linear", missing)
    has_wide_products.cache_clear()
    try:
        assert not has_wide_products()
        assert torch.equal(
            product_with_transposed(torch.ones(2, 3), torch.ones(1, 3)), torch.full((2, 1), 3.0)
        )
    finally:
        has_wide_products.cache_clear()
