"""Optimising drawn rows only ends where optimising all rows at every step does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multiomics_vae.kernels import FeatureSample
from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.training import fit as fit_module
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.lazy_matrix import LazyMatrix
from multiomics_vae.training.touched_rows import TouchedRows
from multiomics_vae.training.waiting_table import DRIFT, KEEP, LAG, MEAN, SHRINK, SQUARE, TAKE, WaitingTable
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

N_ROWS, N_DRAWN, WIDTH = 40, 6, 5
BETAS = (0.9, 0.99)


class Twins:
    """A matrix optimised by rows, and its twin optimised as a whole, under the same random gradients.

    Gradients of a feature lie around a mean of its own, so that there is momentum to make up for.
    """

    def __init__(self, weight_decay: float = 0.0, decay: float = 0.9, waits: bool = True) -> None:
        self.generator = torch.Generator().manual_seed(0)
        start = torch.randn(N_ROWS, WIDTH, generator=self.generator)
        self.slope = torch.randn(N_ROWS, WIDTH, generator=self.generator)
        modules = [nn.ParameterList([nn.Parameter(start.clone())]) for _ in range(2)]
        self.lazy, self.whole = (module[0] for module in modules)
        self.optimizers = [
            torch.optim.AdamW(m.parameters(), lr=0.05, betas=BETAS, weight_decay=weight_decay, fused=True)
            for m in modules
        ]
        self.averages = [WeightAverage(module, decay) for module in modules]
        self.rows = TouchedRows([self.lazy]) if waits else TouchedRows([], [self.lazy])
        self.rows.attach(self.optimizers[0], self.averages[0])
        self.n_steps = 0

    def step(self, rate: float = 0.05, drawn: bool = True, whole: bool = False) -> None:
        """One step of both; ``whole`` gives all rows a gradient as well."""
        self.n_steps += 1
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate
        noise = torch.randn(N_ROWS, WIDTH, generator=self.generator)
        gradient = self.slope + 0.5 * noise  # (F, H)
        dense = 0.3 * noise if whole else torch.zeros_like(noise)
        self.whole.grad = self.lazy.grad = None
        sample = FeatureSample.draw(torch.full((N_ROWS,), N_DRAWN / N_ROWS), self.generator)
        if drawn:
            taken = self.rows.take(self.lazy, sample)
            torch.testing.assert_close(taken, self.whole[sample.features], rtol=1e-5, atol=1e-6)
            (taken * gradient[sample.features]).sum().backward()
            dense[sample.features] += gradient[sample.features]
        if drawn or whole:
            self.whole.grad = dense
        if whole:
            self.lazy.grad = 0.3 * noise
        self.rows.before_step()
        for optimizer, average in zip(self.optimizers, self.averages, strict=True):
            optimizer.step()
            average.update()

    def assert_same(self) -> None:
        self.rows.settle()
        torch.testing.assert_close(self.lazy, self.whole, rtol=1e-5, atol=1e-6)
        lazy, whole = (average.average[0] for average in self.averages)
        torch.testing.assert_close(lazy, whole, rtol=1e-5, atol=1e-6)
        lazy_state, whole_state = (o.state_dict()["state"][0] for o in self.optimizers)
        assert lazy_state.keys() == whole_state.keys()
        for name, value in whole_state.items():
            torch.testing.assert_close(lazy_state[name], value, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.995])
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "read"])
def test_rows_end_where_the_whole_matrix_ends(weight_decay: float, decay: float, waits: bool) -> None:
    twins = Twins(weight_decay, decay, waits)
    for step in range(60):
        twins.step(rate=0.05 * (1 - step / 80))
        if not waits:
            torch.testing.assert_close(twins.lazy, twins.whole, rtol=1e-5, atol=1e-6)
    matrix = twins.rows._matrices[id(twins.lazy)]
    assert not isinstance(matrix, LazyMatrix) or matrix.age.max() > 10  # some rows have waited long
    twins.assert_same()


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "read"])
def test_settling_in_between_changes_nothing(waits: bool) -> None:
    twins = Twins(waits=waits)
    for step in range(30):
        twins.step()
        if step % 7 == 0:
            twins.assert_same()
    twins.assert_same()


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "read"])
def test_steps_that_leave_the_matrix_out_still_count_for_the_average(waits: bool) -> None:
    twins = Twins(waits=waits)
    for step in range(30):
        twins.step(drawn=step % 3 != 0)
    twins.assert_same()


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "read"])
def test_a_gradient_of_the_whole_matrix_is_left_to_the_optimiser(waits: bool) -> None:
    twins = Twins(waits=waits)
    for step in range(30):
        twins.step(whole=step % 4 == 0, drawn=step % 8 != 0)
    twins.assert_same()


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "read"])
def test_rows_trade_places_with_their_average(waits: bool) -> None:
    twins = Twins(waits=waits)
    for step in range(20):
        twins.step()
        if step % 6 == 0:
            twins.rows.settle()
            for average in twins.averages:
                average.swap()
            torch.testing.assert_close(twins.lazy, twins.whole, rtol=1e-5, atol=1e-6)
            for average in twins.averages:
                average.swap()
    twins.assert_same()


def test_a_rounded_copy_is_written_with_the_step() -> None:
    twins = Twins(waits=False)
    RoundedCopy.attach(twins.lazy)
    twins.step()
    for _ in range(5):
        twins.step()
        copy = RoundedCopy.of(twins.lazy)
        assert copy is not None
        assert torch.equal(copy, twins.lazy.detach().bfloat16())
    twins.step(whole=True)  # PyTorch's own AdamW, which knows nothing of it
    assert RoundedCopy.of(twins.lazy) is None


def test_a_matrix_that_nobody_took_over_is_read_as_ever() -> None:
    table = nn.Parameter(torch.arange(8.0).view(4, 2))
    sample = FeatureSample(torch.tensor([1, 3]), 4)
    taken = TouchedRows(()).take(table, sample)
    taken.sum().backward()
    assert torch.equal(taken, table[[1, 3]])
    assert table.grad is not None
    assert table.grad.sum() == 4


def test_waiting_table_against_steps_taken_one_by_one() -> None:
    table, generator = WaitingTable(), np.random.default_rng(0)
    steps = [tuple(generator.uniform(0.5, 1.0, 4)) for _ in range(12)]
    for rate, beta, shrink, decay in steps:
        table.pass_step(rate, (beta, beta**1.5), shrink, decay)
    for waited in range(13):
        weight, average, mean, square = 0.7, -0.4, 0.3, 0.2
        for rate, beta, shrink, decay in steps[len(steps) - waited :]:
            mean, square = beta * mean, beta**1.5 * square
            weight = shrink * weight - rate * mean / square**0.5
            average = decay * average + (1 - decay) * weight
        value, pull = table.values[:, waited], 0.3 / 0.2**0.5
        assert value[MEAN] * 0.3 == pytest.approx(mean)
        assert value[SQUARE] * 0.2 == pytest.approx(square)
        assert value[SHRINK] * 0.7 - value[DRIFT] * pull == pytest.approx(weight)
        assert value[KEEP] * -0.4 + value[TAKE] * 0.7 - value[LAG] * pull == pytest.approx(average)


# --- in a training -------------------------------------------------------------------------------------


def weights(model: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.module.parameters()])


@pytest.mark.parametrize("choices", [{}, {"validation_size": 0.0}, {"weight_decay": 0.1}])
def test_training_by_rows_is_training(choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = register(make_cells(n_cells=60, n_features=30, lacking={"atac": range(9)}))
    seen = []
    take = TouchedRows.take

    def run() -> Any:
        return train(make_model(mdata, decoders="mlp"), 4, n_features_per_step=4, **choices)

    def count(self: TouchedRows, parameter: Tensor, sample: FeatureSample) -> Tensor:
        seen.append(len(self._matrices))
        return take(self, parameter, sample)

    monkeypatch.setattr(TouchedRows, "take", count)
    by_rows = run()
    assert set(seen) == {2}
    monkeypatch.setattr(fit_module, "_rows", lambda module, config, chances: None)
    seen.clear()
    as_a_whole = run()
    assert set(seen) == {0}
    np.testing.assert_allclose(by_rows.history.to_frame(), as_a_whole.history.to_frame(), rtol=1e-4)
    torch.testing.assert_close(weights(by_rows), weights(as_a_whole), rtol=1e-3, atol=1e-4)


def test_what_reads_in_between_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipping looks at the whole gradient, and callbacks may look at the weights."""
    from lightning.pytorch import Callback

    seen = []
    attach = TouchedRows.attach

    def count(self: TouchedRows, *arguments: Any) -> None:
        seen.append(len(self.parameters))
        attach(self, *arguments)

    monkeypatch.setattr(TouchedRows, "attach", count)
    mdata = register(make_cells(n_features=30))
    for choices in ({}, {"gradient_clip": 1.0}, {"callbacks": [Callback()]}, {"n_features_per_step": None}):
        train(make_model(mdata, decoders="mlp"), 1, **{"n_features_per_step": 4, **choices})
    train(make_model(mdata, decoders="linear"), 1, n_features_per_step=4)  # has a prior on its weights
    assert seen == [2, 0, 0, 0, 0]


@pytest.mark.parametrize("i", [0, 1], ids=["rna", "atac"])
def test_diverged_rows_are_named(i: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiomics_vae.errors import TrainingDivergedError

    take, names = TouchedRows.take, ("rna", "atac")

    def spoil(self: TouchedRows, parameter: Tensor, sample: FeatureSample) -> Tensor:
        rows = take(self, parameter, sample)
        if parameter is self.parameters[i]:
            rows.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), float("nan")))
        return rows

    mdata = register(make_cells(n_features=30), likelihoods={"rna": "poisson", "atac": "poisson"})
    model = make_model(mdata, decoders="mlp")
    monkeypatch.setattr(TouchedRows, "take", spoil)
    named = rf"modalities\.{i}\.decoder.*modality '{names[i]}'.* stopped being finite at step 0\."
    with pytest.raises(TrainingDivergedError, match=named):
        train(model, 2, n_features_per_step=4)
    assert torch.isfinite(weights(model)).all()
