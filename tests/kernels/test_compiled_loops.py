"""The compiled loops agree with the plain references in float64, whatever the shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernel_cases import CASES, Case, Inputs, make_inputs, relative_error
from torch import Tensor

from multiomics_vae.errors import MultiomicsError
from multiomics_vae.kernels import (
    BernoulliKernel,
    ChunkOptions,
    NegativeBinomialKernel,
    PoissonKernel,
    SparseRows,
    fused_log_likelihood,
    fused_log_likelihoods,
)
from multiomics_vae.kernels.compiled.loop import CompiledLoop
from multiomics_vae.kernels.differentiable import FEWEST_COMPILED_ENTRIES
from multiomics_vae.kernels.options import even_chunk_size

TOLERANCE = 5e-6

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_budget = pytest.mark.parametrize("budget", [0, 2**26], ids=["recomputed", "held"])


def single(inputs: Inputs) -> Inputs:
    """The same numbers in float32, as leaves."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.detach().float().requires_grad_(tensor.requires_grad)

    names = ("hidden", "weight", "bias", "offset", "log_dispersion", "depth")
    changed = {name: cast(getattr(inputs, name)) for name in names}
    weights = inputs.cell_weights
    data = inputs.data.with_values(inputs.data.values.float())
    return replace(inputs, **changed, data=data, cell_weights=None if weights is None else cast(weights))


def assert_compiled_agrees(case: Case, inputs: Inputs, options: ChunkOptions, tolerance: float) -> None:
    exact, rounded = case.plain(inputs), single(inputs)
    found = case.fused(rounded, replace(options, compiled=True))
    gradients = torch.autograd.grad(-0.7 * found.total, case.leaves(rounded))
    expected = torch.autograd.grad(-0.7 * exact.total, case.leaves(inputs))
    assert relative_error(found.total.double(), exact.total) <= tolerance
    assert relative_error(found.per_cell.double(), exact.per_cell) <= tolerance
    for one, other in zip(gradients, expected, strict=True):
        assert one.dtype == torch.float32
        assert relative_error(one.double(), other) <= tolerance


@every_case
@every_budget
@pytest.mark.parametrize("chunk_size", [1, 2, 36, 37, 38, 512])
def test_chunk_boundaries(case: Case, budget: int, chunk_size: int, threads: int) -> None:
    options = ChunkOptions(chunk_size=chunk_size, memory_budget=budget)
    assert_compiled_agrees(case, make_inputs(), options, TOLERANCE)


@every_case
@every_budget
def test_many_features(case: Case, budget: int, threads: int) -> None:
    options = ChunkOptions(chunk_size=700, memory_budget=budget)
    assert_compiled_agrees(case, make_inputs(32, 5000, 16), options, TOLERANCE)


@every_case
@pytest.mark.parametrize("shape", ["empty rows", "all zero features", "no entries", "one cell", "full"])
def test_shapes_of_data(case: Case, shape: str) -> None:
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
    assert_compiled_agrees(case, inputs.with_counts(x), ChunkOptions(chunk_size=8), TOLERANCE)


@every_case
def test_stored_zeros_count_as_zeros(case: Case) -> None:
    inputs = make_inputs()
    values = inputs.data.values.clone()
    values[::3] = 0.0
    assert_compiled_agrees(
        case, replace(inputs, data=inputs.data.with_values(values)), ChunkOptions(), TOLERANCE
    )


@every_case
@pytest.mark.parametrize("weights", ["none", "zeros among them", "all zero"])
def test_cell_weights(case: Case, weights: str) -> None:
    inputs = make_inputs()
    assert inputs.cell_weights is not None
    given = None if weights == "none" else inputs.cell_weights.clone()
    if given is not None:
        given[: 3 if weights == "zeros among them" else 6] = 0.0
    assert_compiled_agrees(case, replace(inputs, cell_weights=given), ChunkOptions(chunk_size=8), TOLERANCE)


@every_case
@every_budget
def test_bfloat16_products(case: Case, budget: int) -> None:
    options = ChunkOptions(chunk_size=512, memory_budget=budget, product_dtype=torch.bfloat16)
    inputs = make_inputs(32, 2100, 16)
    assert_compiled_agrees(case, inputs, options, 2e-2)
    rounded = single(inputs)
    in_torch = case.fused(rounded, replace(options, compiled=False)).per_cell
    compiled = case.fused(rounded, replace(options, compiled=True)).per_cell
    assert relative_error(compiled, in_torch) < 1e-5  # both read the same rounded products


@every_case
@every_budget
def test_extreme_logits(case: Case, budget: int) -> None:
    inputs = make_inputs()
    bias = torch.linspace(-40, 40, 37, dtype=torch.float64)
    for direction in (bias, -bias):
        extreme = replace(inputs, bias=direction.clone().requires_grad_())
        assert_compiled_agrees(case, extreme, ChunkOptions(chunk_size=8, memory_budget=budget), 1e-5)


@pytest.mark.parametrize("log_dispersion", [-8.0, 0.0, 6.0, 12.0])
def test_extreme_dispersions(log_dispersion: float) -> None:
    inputs = make_inputs(8, 200, 4)
    table = torch.full((200,), log_dispersion, dtype=torch.float64)
    exact = CASES[2].plain(replace(inputs, log_dispersion=table))
    (expected,) = torch.autograd.grad(exact.total, inputs.hidden)
    rounded = replace(single(inputs), log_dispersion=table.float())
    found = CASES[2].fused(rounded, ChunkOptions(compiled=True))
    (gradient,) = torch.autograd.grad(found.total, rounded.hidden)
    assert relative_error(found.total.double(), exact.total) < 1e-5
    assert relative_error(gradient.double(), expected) < 1e-5


@every_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_weight_is_seen_in_the_value(case: Case, bad: float) -> None:
    inputs = single(make_inputs())
    weight = inputs.weight.detach().clone()
    weight[5, 0] = bad
    found = case.fused(replace(inputs, weight=weight), ChunkOptions(compiled=True))
    assert not bool(torch.isfinite(found.total))


@every_case
def test_without_gradients(case: Case) -> None:
    inputs = single(make_inputs())
    with torch.no_grad():
        quiet = case.fused(inputs, ChunkOptions(compiled=True))
    assert not quiet.total.requires_grad
    assert torch.equal(quiet.per_cell, case.fused(inputs, ChunkOptions(compiled=True)).per_cell)


# --- several draws together ----------------------------------------------------------------------------

KERNELS = {"bernoulli": BernoulliKernel(), "poisson": PoissonKernel(), "nb": NegativeBinomialKernel()}
UPSTREAM = (-1.0, -0.3, 0.5)


def evaluate(
    name: str, inputs: Inputs, hidden: Tensor, upstream: tuple[float, ...] | None, compiled: bool
) -> tuple[Tensor, Tensor]:
    """Totals and values of cells at three hidden layers."""
    found = fused_log_likelihoods(
        KERNELS[name],
        hidden,
        inputs.weight,
        inputs.bias,
        inputs.data,
        depth=None if name == "bernoulli" else inputs.depth,
        offset=inputs.offset if name == "bernoulli" else None,
        log_dispersion=inputs.log_dispersion if name == "nb" else None,
        cell_weights=torch.linspace(0, 1, 18, dtype=hidden.dtype).view(3, 6),
        upstream=upstream,
        options=ChunkOptions(chunk_size=8, compiled=compiled),
    )
    return found.totals, found.per_cell


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("factor", [1.0, -2.0])
def test_draws_together_are_draws_one_by_one(name: str, factor: float) -> None:
    inputs = single(make_inputs())
    hidden = torch.stack([inputs.hidden.detach() * s for s in (1.0, -0.5, 2.0)]).requires_grad_()
    leaves = [hidden, inputs.weight, inputs.bias]
    leaves += [inputs.offset] if name == "bernoulli" else []
    leaves += [inputs.log_dispersion] if name == "nb" else []
    upstream = torch.tensor(UPSTREAM)
    one_by_one = evaluate(name, inputs, hidden, UPSTREAM, compiled=False)
    together = evaluate(name, inputs, hidden, UPSTREAM, compiled=True)
    expected = torch.autograd.grad((factor * upstream * one_by_one[0]).sum(), leaves)
    found = torch.autograd.grad((factor * upstream * together[0]).sum(), leaves)
    assert relative_error(together[0], one_by_one[0]) <= TOLERANCE
    assert relative_error(together[1], one_by_one[1]) <= TOLERANCE
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE


def test_another_weighing_of_the_draws_is_refused() -> None:
    inputs = single(make_inputs())
    hidden = inputs.hidden.detach().repeat(3, 1, 1).requires_grad_()
    totals, _ = evaluate("bernoulli", inputs, hidden, UPSTREAM, compiled=True)
    with pytest.raises(MultiomicsError, match=r"no multiple of \(-1\.0, -0\.3, 0\.5\).*upstream="):
        totals.sum().backward()
    totals, _ = evaluate("bernoulli", inputs, hidden, None, compiled=True)
    totals.sum().backward()
    assert hidden.grad is not None


def test_draws_that_count_for_nothing_have_no_gradient() -> None:
    inputs = single(make_inputs())
    hidden = inputs.hidden.detach().repeat(3, 1, 1).requires_grad_()
    totals, _ = evaluate("bernoulli", inputs, hidden, (-1.0, 0.0, 0.0), compiled=True)
    (-totals[0]).backward()
    assert hidden.grad is not None
    assert bool((hidden.grad[0] != 0).any())
    assert bool((hidden.grad[1:] == 0).all())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_draws_that_teach_the_dispersion_nothing(compiled: bool, n_batches: int) -> None:
    """Its gradient is that of the others; all other gradients, and the values, are what they were."""
    inputs = single(make_inputs(n_batches=n_batches))
    hidden = torch.stack([inputs.hidden.detach() * s for s in (1.0, -0.5, 2.0)]).requires_grad_()
    leaves = [hidden, inputs.weight, inputs.bias, inputs.log_dispersion]

    def found(teaches: tuple[bool, ...] | None, draws: slice = slice(None)) -> tuple[Tensor, list[Tensor]]:
        """Totals of some draws, and the gradient of their weighted sum by every leaf."""
        totals = fused_log_likelihoods(
            NegativeBinomialKernel(),
            hidden[draws],
            inputs.weight,
            inputs.bias,
            inputs.data,
            depth=inputs.depth,
            log_dispersion=inputs.log_dispersion,
            batch=inputs.batch,
            cell_weights=torch.linspace(0, 1, 18).view(3, 6)[draws],
            upstream=UPSTREAM[draws],
            teaches_dispersion=teaches,
            options=ChunkOptions(chunk_size=8, compiled=compiled),
        ).totals
        return totals, list(torch.autograd.grad((torch.tensor(UPSTREAM[draws]) * totals).sum(), leaves))

    everything, of_all = found(None)
    without_second, of_two = found((True, False, True))
    assert torch.equal(without_second, everything)
    for one, other in zip(of_two[:-1], of_all[:-1], strict=True):
        assert torch.equal(one, other)
    alone = [found(None, slice(s, s + 1))[1][-1] for s in (0, 2)]
    assert relative_error(of_two[-1], alone[0] + alone[1]) <= TOLERANCE
    assert relative_error(of_two[-1], of_all[-1]) > 0.01
    assert bool((found((False,) * 3)[1][-1] == 0).all())


# --- who decides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_features", "dtype", "compiled", "expected"),
    [
        (8, torch.float32, None, False),
        (FEWEST_COMPILED_ENTRIES // 4, torch.float32, None, True),
        (FEWEST_COMPILED_ENTRIES // 4, torch.float32, False, False),
        (FEWEST_COMPILED_ENTRIES // 4, torch.float64, True, False),
        (8, torch.float32, True, True),
    ],
)
def test_large_float32_is_compiled(
    n_features: int,
    dtype: torch.dtype,
    compiled: bool | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    run = CompiledLoop.run
    monkeypatch.setattr(CompiledLoop, "run", lambda self: seen.append(1) or run(self))
    data = SparseRows.from_dense(torch.zeros(4, n_features, dtype=dtype))
    hidden, weight = torch.zeros(1, 4, 2, dtype=dtype), torch.zeros(n_features, 2, dtype=dtype)
    bias, options = torch.zeros(n_features, dtype=dtype), ChunkOptions(compiled=compiled)
    fused_log_likelihoods(BernoulliKernel(), hidden, weight, bias, data, options=options)
    assert bool(seen) == expected


def test_dispersions_by_batch_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompiledLoop, "run", lambda self: pytest.fail("one dispersion a feature only"))
    inputs = make_inputs(n_batches=2, dtype=torch.float32)
    CASES[2].fused(inputs, ChunkOptions(compiled=True))


@every_case
def test_the_number_of_threads_changes_no_bit(case: Case) -> None:
    inputs = make_inputs(n_features=700, dtype=torch.float32)
    options = ChunkOptions(chunk_size=64, compiled=True)
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            leaves = inputs.hidden.detach().requires_grad_(), inputs.weight.detach().requires_grad_()
            value = case.fused(replace(inputs, hidden=leaves[0], weight=leaves[1]), options)
            found.append((value.per_cell, *torch.autograd.grad(value.total, leaves)))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize(("n_features", "largest"), [(15_000, 2048), (80_000, 2048), (2049, 2048), (5, 2048)])
def test_chunks_are_even(n_features: int, largest: int) -> None:
    size = even_chunk_size(n_features, largest)
    n_chunks = -(-n_features // size)
    assert size <= largest
    assert n_chunks == 1 or n_chunks % 2 == 0
    assert n_chunks * size - n_features <= 16 * n_chunks


@pytest.mark.parametrize("logit", [0.0, -1e-3, 3.0, -10.0, -17.0, -40.0])
def test_peaks_that_are_alike_cost_the_same_each(logit: float) -> None:
    """Factors of 2 are the most that a product may have, and small ones must not be rounded off beside 1."""
    n_features = 200
    data, bias = SparseRows.from_dense(torch.zeros(3, n_features)), torch.full((n_features,), logit)
    hidden, weight = torch.zeros(3, 4), torch.zeros(n_features, 4)
    options = ChunkOptions(compiled=True)
    found = fused_log_likelihood(BernoulliKernel(), hidden, weight, bias, data, options=options)
    expected = -n_features * torch.nn.functional.softplus(torch.full((3,), logit, dtype=torch.float64))
    torch.testing.assert_close(found.per_cell.double(), expected, rtol=2e-6, atol=0.0)
