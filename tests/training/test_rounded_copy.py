"""Copies in bfloat16 that an optimiser writes are what rounding would give, or are not read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multiomics_vae import MultiVAE
from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.training import optimizer as optimizer_module
from multiomics_vae.training import row_loops
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.optimizer import AveragingAdamW
from small_models import make_cells, make_model, register, train

WIDE = 1_200  # × 64 hidden units: wide enough for the walk, and with 128 cells for the compiled loops


class Walked:
    """A layer whose weight carries a copy, with its optimiser and average."""

    def __init__(self) -> None:
        self.layer = nn.Linear(70, 50)
        self.weight = self.layer.weight
        self.average = WeightAverage(self.layer, 0.8)
        self.optimizer = AveragingAdamW([{"params": list(self.layer.parameters())}], 0.03, (0.9, 0.99))
        self.optimizer.attach(self.average, others=())
        RoundedCopy.attach(self.weight)

    def step(self) -> None:
        self.weight.grad = torch.randn(self.weight.shape, generator=torch.Generator().manual_seed(0))
        self.optimizer.step()
        self.average.update()

    def assert_good(self) -> None:
        copy = RoundedCopy.of(self.weight)
        assert copy is not None
        assert torch.equal(copy, self.weight.detach().bfloat16())


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Walked:
    monkeypatch.setattr(optimizer_module, "FEWEST_ENTRIES", 3_000)
    monkeypatch.setattr(optimizer_module, "ENTRIES_IN_PIECE", 1_000)
    return Walked()


def test_a_walk_writes_the_copy(walked: Walked) -> None:
    assert RoundedCopy.of(walked.weight) is None
    for _ in range(3):
        walked.step()
        walked.assert_good()
    walked.weight.grad = None  # nothing moves
    walked.optimizer.step()
    walked.assert_good()
    RoundedCopy.detach(walked.weight)
    assert RoundedCopy.on(walked.weight) is None
    walked.step()


def test_a_copy_of_other_numbers_is_not_read(walked: Walked) -> None:
    walked.step()
    walked.average.swap()
    assert RoundedCopy.of(walked.weight) is None
    walked.average.swap()
    walked.assert_good()
    with torch.no_grad():
        walked.weight.mul_(2.0)
    assert RoundedCopy.of(walked.weight) is None
    walked.step()
    walked.assert_good()
    walked.layer.load_state_dict({name: t + 1.0 for name, t in walked.layer.state_dict().items()})
    assert RoundedCopy.of(walked.weight) is None


def test_a_walk_that_breaks_off_leaves_no_copy(walked: Walked, monkeypatch: pytest.MonkeyPatch) -> None:
    walked.step()

    def broken(*_: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(optimizer_module, "step_whole", broken)
    with pytest.raises(KeyboardInterrupt):
        walked.step()
    assert RoundedCopy.of(walked.weight) is None


@pytest.mark.parametrize("decoders", ["mlp", "linear"])
def test_training_is_bitwise_the_same(decoders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, read = RoundedCopy.of, []

    def trained(with_copies: bool) -> MultiVAE:
        def looked_up(weight: Tensor) -> Tensor | None:
            copy = found(weight) if with_copies else None
            read.append(copy is not None)
            return copy

        monkeypatch.setattr(RoundedCopy, "of", staticmethod(looked_up))
        cells = register(make_cells(n_cells=320, n_features=WIDE))
        model = make_model(cells, n_hidden=64, decoders=decoders)
        return train(model, 3, precision="bfloat16", batch_size=144)

    one = [parameter.detach() for parameter in trained(True).module.parameters()]
    assert decoders == "linear" or sum(read) > 6
    other = trained(False).module
    for a, b in zip(one, other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert RoundedCopy.on(b) is None


def test_rounding_on_the_way_changes_nothing_else() -> None:
    n = 4133
    generator = torch.Generator().manual_seed(0)
    start = [torch.rand(n, generator=generator) for _ in range(5)]
    tables = [[tensor.clone().numpy() for tensor in start] for _ in range(2)]
    rounded = torch.empty(n, dtype=torch.bfloat16)
    numbers = (0.9, 0.99, 0.01, 0.999, 1e-8, 0.8)
    whole = row_loops.step_whole(*tables[0], None, *numbers)
    rounding = row_loops.step_whole(*tables[1], rounded.view(torch.uint16).numpy(), *numbers)
    assert rounding == pytest.approx(whole, rel=1e-5)
    for one, other in zip(*tables, strict=True):
        assert (one == other).all()
    assert torch.equal(rounded, torch.from_numpy(tables[1][0]).bfloat16())
