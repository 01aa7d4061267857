"""The fused log likelihoods agree with the plain ones: value, cells' values and every gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernel_cases import CASES, Case, Inputs, assert_agree, make_inputs, relative_error
from torch import Tensor

from multiomics_vae.errors import MultiomicsError
from multiomics_vae.kernels import ChunkOptions, chunk_rows

EXACT, FLOAT32, BFLOAT16 = 1e-10, 1e-5, 2e-2
BUDGETS = [0, 2**26]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_budget = pytest.mark.parametrize("budget", BUDGETS, ids=["recomputed", "held"])


@every_case
@every_budget
@pytest.mark.parametrize("chunk_size", [1, 2, 36, 37, 38, 512, None])
def test_chunk_boundaries(case: Case, budget: int, chunk_size: int | None) -> None:
    options = ChunkOptions(chunk_size=chunk_size, memory_budget=budget)
    assert_agree(case, make_inputs(), options, EXACT)


@every_case
@every_budget
def test_float32(case: Case, budget: int) -> None:
    options = ChunkOptions(chunk_size=512, memory_budget=budget)
    assert_agree(case, make_inputs(32, 2100, 16, dtype=torch.float32), options, FLOAT32)


@every_case
@every_budget
def test_float32_is_as_near_to_float64_as_plain_float32(case: Case, budget: int) -> None:
    single = make_inputs(16, 20_000, 16, dtype=torch.float32)
    double = make_inputs(16, 20_000, 16, dtype=torch.float64)
    exact, plain = case.plain(double), case.plain(single)
    fused = case.fused(single, ChunkOptions(memory_budget=budget))
    allowed = 2 * relative_error(plain.per_cell, exact.per_cell) + 2e-7
    assert relative_error(fused.per_cell, exact.per_cell) <= allowed


@every_case
@every_budget
def test_bfloat16_products(case: Case, budget: int) -> None:
    options = ChunkOptions(chunk_size=512, memory_budget=budget, product_dtype=torch.bfloat16)
    assert_agree(case, make_inputs(32, 2100, 16, dtype=torch.float32), options, BFLOAT16)


@every_case
@every_budget
def test_gradcheck(case: Case, budget: int) -> None:
    inputs = make_inputs(3, 5, 2, n_batches=2)
    names = ("hidden", "weight", "bias", "offset" if case.name == "bernoulli" else "log_dispersion")
    names = names[: len(case.leaves(inputs))]

    def total(*leaves: Tensor) -> Tensor:
        options = ChunkOptions(chunk_size=2, memory_budget=budget, allow_repeated_backward=True)
        return case.fused(replace(inputs, **dict(zip(names, leaves, strict=True))), options).total

    assert torch.autograd.gradcheck(total, case.leaves(inputs))


@every_budget
@pytest.mark.parametrize("n_batches", [1, 3])
def test_dispersion_by_batch(budget: int, n_batches: int) -> None:
    nb = CASES[2]
    inputs = make_inputs(n_batches=n_batches)
    assert_agree(nb, inputs, ChunkOptions(chunk_size=8, memory_budget=budget), EXACT)
    if n_batches == 1:
        two_dimensional = inputs.log_dispersion.detach().unsqueeze(0).requires_grad_()
        with_row = replace(inputs, log_dispersion=two_dimensional)
        assert_agree(nb, with_row, ChunkOptions(chunk_size=8, memory_budget=budget), EXACT)
        with_codes = replace(with_row, batch=torch.zeros(6, dtype=torch.int64))
        assert_agree(nb, with_codes, ChunkOptions(chunk_size=8, memory_budget=budget), EXACT)


@every_case
@every_budget
@pytest.mark.parametrize("shape", ["empty rows", "all zero features", "no entries", "one cell", "full"])
def test_shapes_of_data(case: Case, budget: int, shape: str) -> None:
    inputs = make_inputs(1 if shape == "one cell" else 6)
    x = inputs.data.to_dense()
    if shape == "empty rows":
        x[[0, 3, 5]] = 0.0
    elif shape == "all zero features":
        x[:, 8:24] = 0.0
    elif shape == "no entries":
        x[:] = 0.0
    elif shape == "full":
        x += 1.0
    options = ChunkOptions(chunk_size=8, memory_budget=budget)
    assert_agree(case, inputs.with_counts(x), options, EXACT)


@every_case
@pytest.mark.parametrize("weights", ["none", "zeros among them", "all zero"])
def test_cell_weights(case: Case, weights: str) -> None:
    inputs = make_inputs()
    assert inputs.cell_weights is not None
    unweighted = case.fused(replace(inputs, cell_weights=None), ChunkOptions(chunk_size=8)).per_cell
    given = None if weights == "none" else inputs.cell_weights.clone()
    if given is not None:
        given[: 3 if weights == "zeros among them" else 6] = 0.0
    inputs = replace(inputs, cell_weights=given)
    assert_agree(case, inputs, ChunkOptions(chunk_size=8), EXACT)
    fused = case.fused(inputs, ChunkOptions(chunk_size=8))
    assert torch.equal(fused.per_cell, unweighted)
    assert not fused.per_cell.requires_grad


@every_case
@every_budget
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits(case: Case, budget: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    bias = torch.linspace(-40, 40, 37, dtype=dtype)
    for direction in (bias, -bias):
        extreme = replace(inputs, bias=direction.clone().requires_grad_())
        fused = case.fused(extreme, ChunkOptions(chunk_size=8, memory_budget=budget))
        gradients = torch.autograd.grad(fused.total, case.leaves(extreme))
        assert all(bool(tensor.isfinite().all()) for tensor in (*fused, *gradients))
        tolerance = EXACT if dtype == torch.float64 else FLOAT32
        assert_agree(case, extreme, ChunkOptions(chunk_size=8, memory_budget=budget), tolerance)


@pytest.mark.parametrize("log_dispersion", [-8.0, 0.0, 6.0, 12.0])
def test_extreme_dispersions_in_float32(log_dispersion: float) -> None:
    nb = CASES[2]
    gradients = []
    for dtype, run in ((torch.float64, nb.plain), (torch.float32, lambda i: nb.fused(i, ChunkOptions()))):
        inputs = make_inputs(8, 200, 4, dtype=dtype)
        table = torch.full((200,), log_dispersion, dtype=dtype, requires_grad=True)
        result = run(replace(inputs, log_dispersion=table))
        (gradient,) = torch.autograd.grad(result.total, inputs.hidden)
        gradients.append((result.total, gradient))
    (exact, exact_gradient), (single, single_gradient) = gradients
    assert relative_error(single, exact) < FLOAT32
    assert relative_error(single_gradient, exact_gradient) < FLOAT32


@every_case
def test_no_gradient_asked_no_gradient_made(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiomics_vae.kernels.output_layer import OutputLayer

    def refuse(*_: object) -> None:
        raise AssertionError("gradient work without a gradient being asked for")

    monkeypatch.setattr(OutputLayer, "add_gradient", refuse)
    inputs = make_inputs()
    with torch.no_grad():
        quiet = case.fused(inputs, ChunkOptions(chunk_size=8))
    assert not quiet.total.requires_grad
    with pytest.raises(AssertionError, match="gradient work"):
        case.fused(inputs, ChunkOptions(chunk_size=8))
    expected = case.plain(inputs)
    assert relative_error(quiet.total, expected.total) <= EXACT


@every_case
@pytest.mark.parametrize("which", [0, 1, 2])
def test_gradient_of_one_input_alone(case: Case, which: int) -> None:
    inputs = make_inputs()
    names = ("hidden", "weight", "bias")
    frozen = {name: getattr(inputs, name).detach() for i, name in enumerate(names) if i != which}
    frozen |= {"offset": inputs.offset.detach(), "log_dispersion": inputs.log_dispersion.detach()}
    alone = replace(inputs, **frozen)
    leaf = getattr(alone, names[which])
    (found,) = torch.autograd.grad(case.fused(alone, ChunkOptions(chunk_size=8)).total, leaf)
    (expected,) = torch.autograd.grad(case.plain(alone).total, leaf)
    assert relative_error(found, expected) <= EXACT


def test_dispersion_alone_learns() -> None:
    inputs = make_inputs(n_batches=2)
    frozen = replace(
        inputs, hidden=inputs.hidden.detach(), weight=inputs.weight.detach(), bias=inputs.bias.detach()
    )
    fused = CASES[2].fused(frozen, ChunkOptions(chunk_size=8)).total
    (found,) = torch.autograd.grad(fused, frozen.log_dispersion)
    (expected,) = torch.autograd.grad(CASES[2].plain(frozen).total, frozen.log_dispersion)
    assert relative_error(found, expected) <= EXACT


@every_case
def test_backward_twice(case: Case) -> None:
    inputs = make_inputs()
    total = case.fused(inputs, ChunkOptions()).total
    torch.autograd.grad(total, inputs.hidden, retain_graph=True)
    with pytest.raises(MultiomicsError, match="allow_repeated_backward=True"):
        torch.autograd.grad(total, inputs.hidden)
    total = case.fused(inputs, ChunkOptions(allow_repeated_backward=True)).total
    (first,) = torch.autograd.grad(total, inputs.hidden, retain_graph=True)
    (second,) = torch.autograd.grad(2.0 * total, inputs.hidden)
    assert relative_error(second, 2.0 * first) <= EXACT


@every_case
def test_sorted_once_for_several_calls(case: Case) -> None:
    inputs = make_inputs()
    options = ChunkOptions(chunk_size=8)
    shared = replace(inputs, data=chunk_rows(inputs.data, inputs.hidden, options))  # type: ignore[arg-type]
    assert torch.equal(case.fused(shared, options).per_cell, case.fused(inputs, options).per_cell)


@every_case
def test_inputs_are_left_alone_and_autocast_changes_nothing(case: Case) -> None:
    inputs = make_inputs(8, 600, 8, dtype=torch.float32)
    before = [leaf.detach().clone() for leaf in case.leaves(inputs)]
    values = inputs.data.values.clone()
    outside = case.fused(inputs, ChunkOptions(chunk_size=512)).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.fused(inputs, ChunkOptions(chunk_size=512)).total
    assert torch.equal(inside, outside)
    assert all(torch.equal(a, b) for a, b in zip(before, case.leaves(inputs), strict=True))
    assert torch.equal(values, inputs.data.values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_case
@every_budget
def test_on_a_gpu(case: Case, budget: int) -> None:
    inputs = make_inputs(6, 3000, 8)

    def move(tensor: Tensor) -> Tensor:
        return tensor.detach().cuda().requires_grad_(tensor.requires_grad)

    data = inputs.data
    moved = Inputs(
        *(move(getattr(inputs, n)) for n in ("hidden", "weight", "bias", "offset", "log_dispersion")),
        replace(data, **{n: getattr(data, n).cuda() for n in ("row_pointers", "columns", "values")}),
        move(inputs.depth),
        None,
        move(inputs.cell_weights),  # type: ignore[arg-type]
    )
    assert_agree(case, moved, ChunkOptions(chunk_size=512, memory_budget=budget), EXACT)
