"""Sparse rows, their sorting by chunk, options, and what the fused functions refuse."""

from __future__ import annotations

import re

import pytest
import torch
from kernel_cases import make_inputs

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import (
    BernoulliKernel,
    ChunkedEntries,
    ChunkOptions,
    NegativeBinomialKernel,
    PoissonKernel,
    SparseRows,
    bernoulli_log_likelihood,
    fused_log_likelihood,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)
from multiomics_vae.kernels.allocation import LARGE_FROM_BYTES, empty_buffer

I64 = torch.int64


def test_dense_there_and_back() -> None:
    x = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    rows = SparseRows.from_dense(x)
    rows.validate()
    assert rows.row_pointers.tolist() == [0, 1, 1, 3]
    assert rows.row_of_each_entry().tolist() == [0, 2, 2]
    assert torch.equal(rows.to_dense(), x)


@pytest.mark.parametrize(
    ("pointers", "columns", "n_features", "message"),
    [
        ([0, 1], [0, 1], 3, "must rise from 0"),
        ([1, 2], [0, 1], 3, "must rise from 0"),
        ([0, 2, 1, 2], [0, 1], 3, "must rise from 0"),
        ([0, 2], [0, 3], 3, "n_features=4"),
        ([0, 2], [-1, 1], 3, "lie in -1"),
        ([0, 2], [1, 0], 3, "increase strictly"),
        ([0, 2], [1, 1], 3, "sum_duplicates"),
    ],
)
def test_validate_refuses(pointers: list[int], columns: list[int], n_features: int, message: str) -> None:
    rows = SparseRows(
        torch.tensor(pointers), torch.tensor(columns), torch.ones(len(columns)), n_features=n_features
    )
    with pytest.raises(InputError, match=re.escape(message)):
        rows.validate()


@pytest.mark.parametrize(
    ("pointers", "columns", "values", "n_features", "message"),
    [
        (torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0]), torch.ones(1), 2, "torch.int32"),
        (torch.tensor([0, 1]), torch.tensor([0.0]), torch.ones(1), 2, "columns.to(torch.int64)"),
        (torch.tensor([], dtype=I64), torch.tensor([], dtype=I64), torch.ones(0), 2, "torch.zeros(1"),
        (torch.tensor([0, 1]), torch.tensor([0]), torch.ones(2), 2, "values=data"),
        (torch.tensor([0, 0]), torch.tensor([], dtype=I64), torch.ones(0), 0, "at least 1"),
    ],
)
def test_sparse_rows_refuse(
    pointers: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, n_features: int, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SparseRows(pointers, columns, values, n_features)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 36, 37, 64])
def test_every_entry_lands_in_its_chunk(chunk_size: int) -> None:
    data = make_inputs().data
    chunked = ChunkedEntries(data, chunk_size)
    rebuilt = torch.zeros(data.n_cells, data.n_features, dtype=torch.float64)
    for chunk, features in enumerate(chunked.chunks):
        part = chunked.of_chunk(chunk)
        width = features.stop - features.start
        buffer = torch.zeros(width * data.n_cells, dtype=torch.float64)
        buffer[part.positions] = part.values
        rebuilt[:, features] = buffer.view(width, data.n_cells).T
        assert bool(((part.columns >= features.start) & (part.columns < features.stop)).all())
        assert torch.equal(data.to_dense()[part.rows, part.columns], part.values)
    assert torch.equal(rebuilt, data.to_dense())
    assert chunked.starts[-1] == len(data.columns)


@pytest.mark.parametrize(
    ("n_cells", "device", "expected"),
    [(128, "cpu", 2048), (1, "cpu", 8192), (0, "cpu", 8192), (100_000, "cpu", 512), (128, "cuda", 65536)],
)
def test_chunk_size_follows_the_cells(n_cells: int, device: str, expected: int) -> None:
    assert ChunkOptions().chunk_size_for(n_cells, torch.float32, torch.device(device)) == expected
    assert ChunkOptions(chunk_size=7).chunk_size_for(n_cells, torch.float32, torch.device(device)) == 7


def test_options_refuse() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        ChunkOptions(chunk_size=0)
    with pytest.raises(InputError, match="cannot be -1"):
        ChunkOptions(memory_budget=-1)
    with pytest.raises(InputError, match=r"torch\.int8"):
        ChunkOptions(product_dtype=torch.int8)


def test_large_buffers_are_aligned_and_writable() -> None:
    n_columns = 1001
    shape = (LARGE_FROM_BYTES // (4 * n_columns) + 1, n_columns)
    large = empty_buffer(shape, torch.zeros(1))
    assert large.shape == shape
    assert large.data_ptr() % 64 == 0
    assert large.is_contiguous()
    large.fill_(2.0)
    assert float(large.double().sum()) == 2.0 * large.numel()


def test_a_cell_too_few() -> None:
    i = make_inputs()
    with pytest.raises(InputError, match="data has 6 rows of 37 features"):
        bernoulli_log_likelihood(i.hidden[:5], i.weight, i.bias, i.data)
    with pytest.raises(InputError, match="must share H"):
        bernoulli_log_likelihood(i.hidden[:, :3], i.weight, i.bias, i.data)
    with pytest.raises(InputError, match=r"bias must have shape \(37,\)"):
        bernoulli_log_likelihood(i.hidden, i.weight, i.bias[:5], i.data)
    with pytest.raises(InputError, match="cell_weights must have one value a cell"):
        bernoulli_log_likelihood(i.hidden, i.weight, i.bias, i.data, cell_weights=torch.ones(5))
    with pytest.raises(InputError, match="depth must have one value a cell"):
        poisson_log_likelihood(i.hidden, i.weight, i.bias, i.data, i.depth[:, None])


def test_types() -> None:
    i = make_inputs()
    with pytest.raises(InputError, match="hidden must be float32 or float64"):
        bernoulli_log_likelihood(i.hidden.bfloat16(), i.weight, i.bias, i.data)
    with pytest.raises(InputError, match=r"weight is torch\.float32"):
        bernoulli_log_likelihood(i.hidden, i.weight.float(), i.bias, i.data)


def test_what_a_kernel_does_not_read() -> None:
    i = make_inputs()
    core = (i.hidden, i.weight, i.bias, i.data)
    with pytest.raises(InputError, match="needs depth"):
        fused_log_likelihood(PoissonKernel(), *core)
    with pytest.raises(InputError, match="has no depth"):
        fused_log_likelihood(BernoulliKernel(), *core, depth=i.depth)
    with pytest.raises(InputError, match="would cancel"):
        fused_log_likelihood(PoissonKernel(), *core, depth=i.depth, offset=i.offset)
    with pytest.raises(InputError, match="needs log_dispersion"):
        fused_log_likelihood(NegativeBinomialKernel(), *core, depth=i.depth)
    with pytest.raises(InputError, match="has no dispersion"):
        fused_log_likelihood(PoissonKernel(), *core, depth=i.depth, log_dispersion=i.log_dispersion)
    with pytest.raises(InputError, match="no dispersion to look up"):
        fused_log_likelihood(BernoulliKernel(), *core, batch=torch.zeros(6, dtype=I64))


def test_dispersion_tables() -> None:
    i = make_inputs(n_batches=3)
    core = (i.hidden, i.weight, i.bias, i.data, i.depth)
    with pytest.raises(InputError, match="has 3 rows, so batch"):
        negative_binomial_log_likelihood(*core, i.log_dispersion)
    with pytest.raises(InputError, match="batch must be int64"):
        negative_binomial_log_likelihood(*core, i.log_dispersion, batch=torch.zeros(6))
    with pytest.raises(InputError, match=r"\(37,\) or \(n_batches, 37\)"):
        negative_binomial_log_likelihood(*core, i.log_dispersion[:, :5], batch=i.batch)
