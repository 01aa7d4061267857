"""One walk over a matrix does what AdamW, an average of the weights and a norm do one after the other."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multiomics_vae.kernels import FeatureSample
from multiomics_vae.training import optimizer as optimizer_module
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.touched_rows import TouchedRows

BETAS, RATE, DECAY = (0.9, 0.99), 0.03, 0.8


class Pair:
    """The same parameters, two wide ones among them, under AdamW with an average and under the walk."""

    def __init__(self, weight_decay: float) -> None:
        self.generator = torch.Generator().manual_seed(0)
        shapes = ((9, 11), (40,), (5,), (3, 2))
        start = [torch.randn(shape, generator=self.generator) for shape in shapes]
        self.models = [nn.ParameterList([nn.Parameter(t.clone()) for t in start]) for _ in range(2)]
        self.averages = [WeightAverage(model, DECAY) for model in self.models]
        plain, walked = ([{"params": list(m), "weight_decay": weight_decay}] for m in self.models)
        self.plain = torch.optim.AdamW(plain, lr=RATE, betas=BETAS, fused=True)
        self.walked = AveragingAdamW(walked, RATE, BETAS)
        self.walked.attach(self.averages[1], others=())

    def step(self, without: tuple[int, ...] = (), rate: float = RATE) -> None:
        for i, (a, b) in enumerate(zip(*self.models, strict=True)):
            gradient = torch.randn(a.shape, generator=self.generator)
            a.grad, b.grad = (None, None) if i in without else (gradient, gradient.clone())
        for optimizer, average in zip((self.plain, self.walked), self.averages, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            average.update()

    def assert_same(self) -> None:
        same: dict[str, Any] = {"rtol": 1e-5, "atol": 2e-6}
        for a, b in zip(*self.models, strict=True):
            torch.testing.assert_close(b, a, **same)
        for a, b in zip(self.averages[0].average, self.averages[1].average, strict=True):
            torch.testing.assert_close(b, a, **same)
        plain, walked = self.plain.state_dict()["state"], self.walked.state_dict()["state"]
        assert plain.keys() == walked.keys()
        for i, entries in plain.items():
            assert entries.keys() == walked[i].keys()
            for name, value in entries.items():
                torch.testing.assert_close(walked[i][name], value, **same)


@pytest.fixture(autouse=True)
def small_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "FEWEST_ENTRIES", 30)
    monkeypatch.setattr(optimizer_module, "ENTRIES_IN_PIECE", 32)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_walk_is_adamw_and_the_average(weight_decay: float) -> None:
    pair = Pair(weight_decay)
    for step in range(12):
        pair.step(rate=RATE / (1 + step))
    pair.assert_same()


def test_parameters_without_a_gradient_stay_and_are_averaged() -> None:
    pair = Pair(0.1)
    for without in ((0, 2), (), (0, 1, 2, 3), (1,), ()):
        pair.step(without)
    pair.assert_same()


def test_walks_go_on_where_weights_and_average_have_traded_places() -> None:
    pair = Pair(0.0)
    pair.step()
    for _ in range(2):
        for average in pair.averages:
            average.swap()
    pair.step()
    pair.assert_same()


def test_moments_can_be_taken_over_from_adamw() -> None:
    pair, other = Pair(0.0), Pair(0.0)
    pair.step()
    other.step()
    other.walked.load_state_dict(deepcopy(pair.plain.state_dict()))
    for each in (pair, other):
        each.step()
    pair.assert_same()
    other.assert_same()


def test_the_norm_is_that_of_all_gradients_and_sees_what_is_not_a_number() -> None:
    pair = Pair(0.0)
    pair.step(without=(3,))
    gradients = [p.grad for p in pair.models[1] if p.grad is not None]
    squares: Tensor = torch.stack([g.square().sum() for g in gradients]).sum()
    assert pair.walked.squared_norm == pytest.approx(float(squares), rel=1e-5)
    for i, bad in ((0, float("nan")), (1, float("inf")), (2, float("nan"))):
        pair = Pair(0.0)
        for p in pair.models[1]:
            p.grad = torch.ones_like(p)
        pair.models[1][i].grad.view(-1)[-1] = bad  # type: ignore[union-attr]
        pair.walked.step()
        assert not pair.walked.squared_norm < float("inf")


def test_a_closure_is_called_with_gradients_on_and_its_value_returned() -> None:
    pair = Pair(0.0)
    weight = pair.models[1][0]

    def closure() -> Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.detach().clone()
    assert float(pair.walked.step(closure).detach()) == pytest.approx(float(before.square().sum()))
    assert not torch.equal(weight, before)


def test_drawn_rows_have_their_own_norm_and_are_left_out_of_the_walk() -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(40, 4)), nn.Parameter(torch.ones(8, 8))])
    average, rows = WeightAverage(model, DECAY), TouchedRows([model[0]])
    optimizer = AveragingAdamW([{"params": list(model), "weight_decay": 0.0}], RATE, BETAS)
    rows.attach(optimizer, average)
    taken = rows.take(model[0], FeatureSample(torch.tensor([3, 30]), 40))
    (taken.sum() + 2.0 * model[1].sum()).backward()
    rows.before_step()
    optimizer.step()
    assert rows.squared_norm == pytest.approx(8.0)
    assert optimizer.squared_norm == pytest.approx(4.0 * 64)
    changed = (model[0] != 1.0).any(1).nonzero().flatten().tolist()
    assert changed == [3, 30]


def test_without_a_wide_matrix_all_is_left_to_pytorch() -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))])
    average = WeightAverage(model, DECAY)
    optimizer = AveragingAdamW([{"params": list(model)}], RATE, BETAS)
    optimizer.attach(average, others=())
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(bool((each == 1.0).all()) for each in average.average)  # those of `WeightAverage.update`
    assert optimizer.squared_norm == pytest.approx(7.0)
    average.update()
    assert all(bool((each < 1.0).all()) for each in average.average)
