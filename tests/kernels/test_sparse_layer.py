"""The linear layer on sparse rows is the dense one, with its gradients, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from multiomics_vae.kernels import FeatureSample, SparseRows, sparse_layer
from multiomics_vae.kernels.compiled.blocks import Blocks, torch_alone
from multiomics_vae.kernels.compiled.kept_entries import kept_entries
from multiomics_vae.kernels.sparse_layer import is_wide, sparse_linear

N_CELLS, N_FEATURES, N_BESIDE, WIDTH = 70, 45, 3, 7


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_layer, "FEATURES_IN_CHUNK", (16, 16))


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def dense_rows(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(N_CELLS, N_FEATURES, generator=generator)
    dense[torch.rand(N_CELLS, N_FEATURES, generator=generator) < 0.7] = 0.0
    dense[3] = 0.0
    return dense


def layer() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(WIDTH, N_FEATURES + N_BESIDE, generator=generator)
    return weight.requires_grad_(), torch.randn(WIDTH, generator=generator).requires_grad_()


@pytest.mark.usefixtures("chunks", "threads")
@pytest.mark.parametrize("with_beside", [False, True])
def test_values_and_gradients_are_those_of_the_dense_layer(with_beside: bool) -> None:
    dense = dense_rows()
    beside = torch.randn(N_CELLS, N_BESIDE) if with_beside else None
    weight, bias = layer()
    if beside is None:
        weight = weight.detach()[:, :N_FEATURES].contiguous().requires_grad_()
    found = sparse_linear(SparseRows.from_dense(dense), beside, weight, bias)
    whole = dense if beside is None else torch.cat([dense, beside], 1)
    expected = torch.nn.functional.linear(whole, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, [weight, bias], upstream)
    wanted = torch.autograd.grad(expected, [weight, bias], upstream)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("chunks")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    rows, (weight, bias) = SparseRows.from_dense(dense_rows()), layer()
    weight = weight.detach()[:, :N_FEATURES].contiguous().requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            value = sparse_linear(rows, None, weight, bias)
            (gradient,) = torch.autograd.grad(value.square().sum(), [weight])
            found.append((value.detach(), gradient))
    finally:
        torch.set_num_threads(before)
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(gradient, found[0][1])


@pytest.mark.usefixtures("chunks")
def test_a_layer_whose_weight_is_fixed_gets_no_gradient() -> None:
    weight, bias = layer()
    weight = weight.detach()[:, :N_FEATURES].contiguous()
    found = sparse_linear(SparseRows.from_dense(dense_rows()), None, weight, bias)
    found.sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(bias.grad, torch.full((WIDTH,), float(N_CELLS)))


@pytest.mark.usefixtures("chunks")
def test_products_are_rounded_where_pytorch_is_told_to() -> None:
    switch = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    dense, (weight, bias) = dense_rows(), layer()
    weight = weight.detach()[:, :N_FEATURES].contiguous().requires_grad_()
    exact = torch.nn.functional.linear(dense, weight, bias)
    (wanted,) = torch.autograd.grad(exact.sum(), [weight])
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        found = sparse_linear(SparseRows.from_dense(dense), None, weight, bias)
        (gradient,) = torch.autograd.grad(found.sum(), [weight])
    finally:
        switch.fp32_precision = before
    assert not torch.equal(found, exact)
    assert torch.equal(sparse_linear(SparseRows.from_dense(dense), None, weight, bias, torch.bfloat16), found)
    # Factors and partial sums keep 8 bits: 2⁻⁸ of each of some ten terms of size 1.
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.03)
    torch.testing.assert_close(gradient, wanted, rtol=0.02, atol=0.03)


@pytest.mark.usefixtures("chunks", "threads")
def test_blocks_that_are_kept_are_those_that_are_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    rows, (weight, bias) = SparseRows.from_dense(dense_rows()), layer()
    weight = weight.detach()[:, :N_FEATURES].contiguous().requires_grad_()
    before, found = switch.fp32_precision, []
    switch.fp32_precision = "bf16"
    try:
        for most in (2**24, 0):
            monkeypatch.setattr(sparse_layer, "MOST_BYTES_KEPT", most)
            total = sparse_linear(rows, None, weight, bias).square().sum()
            for retain in (True, False):  # the second time nothing is kept any more
                found += torch.autograd.grad(total, [weight], retain_graph=retain)
    finally:
        switch.fp32_precision = before
    for gradient in found[1:]:
        assert torch.equal(gradient, found[0])


def test_small_or_double_rows_are_left_to_pytorch() -> None:
    rows, weight = SparseRows.from_dense(torch.ones(2, 3)), torch.ones(4, 3)
    assert not is_wide(rows, weight)
    n_features = 2**16
    columns = torch.tensor([0, 5])
    pointers = torch.tensor([0, 1, 2])
    wide = SparseRows(pointers, columns, torch.ones(2), n_features)
    assert is_wide(wide, torch.ones(1, n_features))
    assert not is_wide(wide.with_values(torch.ones(2, dtype=torch.float64)), torch.ones(1, n_features))
    assert not is_wide(wide, torch.ones(1, n_features, dtype=torch.float64))


# --- entries of some features ------------------------------------------------------------------------


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("features", [[0, 4, 44], [7], list(range(N_FEATURES))])
def test_kept_entries_are_columns_of_the_data(features: list[int]) -> None:
    dense = dense_rows()
    found = kept_entries(SparseRows.from_dense(dense), torch.tensor(features))
    found.validate()
    assert torch.equal(found.to_dense(), dense[:, features])


def test_a_sample_of_wide_rows_is_the_same_by_either_way() -> None:
    rng = np.random.default_rng(0)
    dense = torch.from_numpy(((rng.random((70, 2000)) < 0.05) * rng.random((70, 2000))).astype(np.float32))
    sample = FeatureSample.draw(torch.full((2000,), 0.15), torch.Generator().manual_seed(0))
    rows = SparseRows.from_dense(dense)
    compiled, plain = sample.entries(rows), sample.entries(rows.with_values(rows.values.double()))
    assert torch.equal(compiled.row_pointers, plain.row_pointers)
    assert torch.equal(compiled.columns, plain.columns)
    assert torch.equal(compiled.values.double(), plain.values)


# --- threads -----------------------------------------------------------------------------------------


def test_torch_alone_leaves_the_threads_to_blocks(threads: int) -> None:
    def work() -> None:
        with torch_alone():
            assert torch.get_num_threads() == 1
            with torch_alone():
                assert Blocks().n_threads == threads
            with Blocks() as blocks:
                blocks.each_one(4, lambda thread, i: None)
            assert torch.get_num_threads() == 1
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        work()
    assert torch.get_num_threads() == threads
    assert Blocks().n_threads == threads
