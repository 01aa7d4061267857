"""Products of float32 matrices by either library: the same numbers, whatever the strides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multiomics_vae.kernels import products
from multiomics_vae.kernels.products import onednn_is_faster, product_with_transposed


def matrix(n: int, m: int, layout: str, seed: int) -> Tensor:
    made = torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
    if layout == "transposed":
        return made.t().contiguous().t()
    if layout == "part":
        wide = torch.zeros(2 * n, m + 3)
        wide[::2, 1 : m + 1] = made
        return wide[::2, 1 : m + 1]
    return made


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("left", ["rows", "transposed", "part"])
@pytest.mark.parametrize("right", ["rows", "transposed", "part"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (65, 128, 33)])
def test_agrees_with_float64(
    shape: tuple[int, int, int], left: str, right: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: onednn)
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
    for layout in ("rows", "transposed", "part"):
        out = matrix(n, m, layout, 2)
        assert product_with_transposed(a, b, out) is out
        assert bool(((out.double() - exact).abs() <= 1e-6 * scale + 1e-30).all())


@pytest.mark.parametrize("layout", ["rows", "transposed", "part"])
def test_onednn_gets_no_gaps(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given rows that do not follow one another in memory, it takes a loop that is 50 times slower."""
    given: list[Tensor] = []

    def linear(left: Tensor, right: Tensor, *_: object) -> Tensor:
        given.extend((left, right))
        return left @ right.t()

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_linear", lambda: linear)
    a, b = matrix(6, 4, layout, 0), matrix(5, 4, layout, 1)
    found = product_with_transposed(a, b)
    assert torch.allclose(found, a @ b.t())
    for dense, kept in zip(given, (a, b), strict=True):
        assert dense.is_contiguous() or dense.t().is_contiguous()
        assert (dense.data_ptr() == kept.data_ptr()) == (layout != "part")


def test_the_result_may_be_written_to() -> None:
    a = torch.ones(4, 3)
    found = product_with_transposed(a, a)
    found.numpy()[:] = 7.0
    assert torch.equal(product_with_transposed(a, a), torch.full((4, 4), 3.0))


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise AttributeError("no such operation")

    monkeypatch.setattr(products, "_linear", missing)
    monkeypatch.setattr(products, "_is_wide_amd", lambda: True)
    onednn_is_faster.cache_clear()
    try:
        assert not onednn_is_faster()
        assert torch.equal(
            product_with_transposed(torch.ones(2, 3), torch.ones(1, 3)), torch.full((2, 1), 3.0)
        )
    finally:
        onednn_is_faster.cache_clear()


@pytest.mark.parametrize("name", ["znver5", "znver4", "znver2", "emeraldrapids", "neoverse-n1"])
def test_onednn_is_for_wide_processors_by_amd(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: name)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: True)
    onednn_is_faster.cache_clear()
    try:
        assert onednn_is_faster() == (name == "znver5" and torch.backends.mkldnn.is_available())
    finally:
        onednn_is_faster.cache_clear()
