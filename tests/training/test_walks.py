"""Walks that other threads begin: what becomes of weights does not depend on when they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import mudata
import pytest
import torch
from torch import Tensor, nn

from multiomics_vae import MultiVAE
from multiomics_vae.errors import TrainingDivergedError
from multiomics_vae.kernels import FeatureSample
from multiomics_vae.kernels.compiled.blocks import Blocks
from multiomics_vae.training import optimizer as optimizer_module
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.gradient_check import GradientCheck
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.touched_rows import TouchedRows
from multiomics_vae.training.walk import Walk
from small_models import make_cells, register

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

CHOICES: dict[str, Any] = {"batch_size": 32, "accelerator": "cpu", "progress": False}
STEPS = ({}, {"precision": "bfloat16"}, {"n_features_per_step": 300}, {"validation_size": 0.0})


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """With so many features that optimisers walk over the matrices."""
    return register(make_cells(n_cells=90, n_features=4200, lacking={"atac": range(8)}))


@pytest.fixture
def small_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "FEWEST_ENTRIES", 30)
    monkeypatch.setattr(optimizer_module, "ENTRIES_IN_PIECE", 32)


def model_of(cells: mudata.MuData) -> MultiVAE:
    return MultiVAE(cells, n_latent=3, n_hidden=16, decoders="mlp")


# --- walks -------------------------------------------------------------------------------------------


def test_a_walk_is_ended_once(threads: int) -> None:
    seen, sums = [], []
    walk = Walk(50, lambda i: seen.append(i) or float(i), after=sums.append)
    for _ in range(2):
        walk.finish()
    assert sorted(seen) == list(range(50))
    assert sums == [sum(range(50))]


def test_a_walk_ends_while_the_other_threads_are_busy_elsewhere() -> None:
    before, gate = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(2)
    try:
        with Blocks() as blocks:
            busy = blocks.begin(1, lambda thread, i: gate.wait(60))
            sums: list[float] = []
            Walk(4, lambda i: 1.0, sums.append).finish()
            assert sums == [4.0]
            gate.set()
            busy.finish()
    finally:
        gate.set()
        torch.set_num_threads(before)


def test_an_error_in_a_walk_is_not_lost(threads: int) -> None:
    def fail(i: int) -> float:
        raise ValueError(f"in piece {i}")

    with pytest.raises(ValueError, match="in piece"):
        Walk(3, fail, after=lambda squares: pytest.fail("it did not end")).finish()


# --- optimisers --------------------------------------------------------------------------------------


class Overlapping:
    """Two wide matrices, of which the second is read last, and drawn rows of a third."""

    def __init__(self, overlaps: bool) -> None:
        start = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(n, 8, generator=start)) for n in (12, 20, 40)]
            + [nn.Parameter(torch.ones(3))]
        )
        self.average, self.rows = WeightAverage(self.weights, 0.9), TouchedRows([], [self.weights[2]])
        self.optimizer = AveragingAdamW([{"params": list(self.weights)}], 0.03, (0.9, 0.99))
        self.rows.attach(self.optimizer, self.average)
        if overlaps:
            self.rows.overlap(late=[self.weights[1]])
        self.generator = torch.Generator().manual_seed(1)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.rows.before_encoders()
        loss = (self.weights[0] * torch.randn(12, 8, generator=self.generator)).sum()
        self.rows.before_outputs()
        sample = FeatureSample.draw(torch.full((40,), 0.2), self.generator)
        taken = self.rows.take(self.weights[2], sample)
        loss = loss + taken.square().sum() + self.weights[1].square().sum() + self.weights[3].sum()
        loss.backward()
        self.rows.before_step()
        self.optimizer.step()
        self.average.update()

    def everything(self) -> list[Tensor]:
        self.rows.settle()
        states = [tensor for weight in self.weights for tensor in self.optimizer.state[weight].values()]
        return [*(w.detach() for w in self.weights), *self.average.average, *states]


@pytest.mark.usefixtures("small_walks")
def test_steps_that_overlap_end_where_others_end(threads: int) -> None:
    one, other = Overlapping(True), Overlapping(False)
    for i in range(12):
        one.step()
        other.step()
        if i % 5 == 0:
            assert all(torch.equal(a, b) for a, b in zip(one.everything(), other.everything(), strict=True))
    assert one.optimizer.squared_norm == other.optimizer.squared_norm
    assert one.rows.squared_norm == other.rows.squared_norm > 0.0
    assert all(torch.equal(a, b) for a, b in zip(one.everything(), other.everything(), strict=True))


@pytest.mark.usefixtures("small_walks")
def test_hooks_are_gone_when_steps_overlap_no_more() -> None:
    each = Overlapping(True)
    each.step()
    each.rows.overlap_no_more()
    assert not any(weight._post_accumulate_grad_hooks for weight in each.weights)
    before = [tensor.clone() for tensor in each.everything()]
    each.weights[0].sum().backward()  # nobody's step any more
    assert all(torch.equal(a, b) for a, b in zip(each.everything(), before, strict=True))


@pytest.mark.usefixtures("small_walks")
@pytest.mark.parametrize("i", [0, 1, 2, 3])
def test_whose_gradient_was_not_finite_is_found_out(i: int) -> None:
    each = Overlapping(True)
    named = [(f"modalities.{n}.weight", weight) for n, weight in enumerate(each.weights)]
    check = GradientCheck(named, ("a", "b", "c", "d"), each.rows, each.optimizer)
    each.step()
    assert check.before_step(0) is check.after_step(0) is check.after_walks() is None

    def spoil(gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, float("nan"))

    take = each.rows.take

    def spoilt(parameter: Tensor, sample: FeatureSample) -> Tensor:
        taken = take(parameter, sample)
        taken.register_hook(spoil)
        return taken

    if i == 2:
        each.rows.take = spoilt  # type: ignore[method-assign]
    else:
        each.weights[i].register_hook(spoil)
    each.step()
    found = check.after_step(1) or check.after_walks()
    whose = f"The gradient of modalities.{i}.weight (modality {'abcd'[i]!r})"
    assert found == f"{whose} stopped being finite at step 1."
    assert check.after_walks() is None or i == 3  # said once


# --- in a training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", STEPS, ids=["exact", "rounded", "drawn", "none held out"])
def test_training_does_not_depend_on_when_walks_end(
    cells: mudata.MuData, choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def trained() -> MultiVAE:
        return model_of(cells).train(2, **CHOICES, **choices)

    def count(self: TouchedRows, late: Any) -> None:
        begun.append(True)
        overlap(self, late)

    overlap = TouchedRows.overlap
    monkeypatch.setattr(TouchedRows, "overlap", count)
    overlapping = trained()
    monkeypatch.setattr(TouchedRows, "overlap", lambda self, late: None)
    one_by_one = trained()
    assert begun == [True]
    for a, b in zip(overlapping.module.parameters(), one_by_one.module.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not a._post_accumulate_grad_hooks
    assert overlapping.history.to_frame().equals(one_by_one.history.to_frame())


@pytest.mark.parametrize("choices", [{}, {"n_features_per_step": 300}], ids=["all", "drawn"])
def test_an_interruption_in_the_backward_pass_leaves_no_walk_behind(
    cells: mudata.MuData, choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cells)
    model.train(1, **CHOICES, **choices)
    kept = [parameter.detach().clone() for parameter in model.module.parameters()]
    backward, n_steps = TrainingPlan.backward, 0

    def interrupted(self: TrainingPlan, *arguments: Any, **options: Any) -> None:
        nonlocal n_steps
        backward(self, *arguments, **options)
        n_steps += 1
        if n_steps == 2:
            raise ValueError("stop")

    monkeypatch.setattr(TrainingPlan, "backward", interrupted)
    with pytest.raises(ValueError, match="stop"):
        model.train(1, **CHOICES, **choices)
    for before, parameter in zip(kept, model.module.parameters(), strict=True):
        assert torch.equal(before, parameter)
        assert not parameter._post_accumulate_grad_hooks


def test_a_last_step_that_diverges_is_not_kept(cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows it that would notice."""
    step = TrainingPlan.training_step
    n_last = -(-81 // CHOICES["batch_size"]) - 1  # of 90 cells 9 are held out

    def spoil(gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, float("nan"))

    def spoilt(self: TrainingPlan, minibatch: Any, batch_idx: int) -> Tensor:
        if batch_idx == n_last:
            self.module.parts[1].decoder.last_layers[0].weight.register_hook(spoil)
        return step(self, minibatch, batch_idx)

    monkeypatch.setattr(TrainingPlan, "training_step", spoilt)
    model = model_of(cells)
    with pytest.raises(TrainingDivergedError, match=rf"modality 'atac'.* finite at step {n_last}\."):
        model.train(1, **CHOICES)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.module.parameters())
