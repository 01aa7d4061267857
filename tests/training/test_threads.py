"""Wide models train alike with any number of threads, in one go or in two, with torch left one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from multiomics_vae import MultiVAE
from multiomics_vae.data.loader import MinibatchLoader, make_minibatch
from multiomics_vae.kernels import SparseRows
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.threads import needs_one_thread
from multiomics_vae.training.transformed import input_transforms
from small_models import make_cells, make_model, register

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

WIDE = 4200  # times 32 cells: enough for compiled loops; times 16 hidden units: enough for a walk
CHOICES: dict[str, Any] = {
    "batch_size": 32,
    "validation_size": 0.0,
    "progress": False,
    "early_stopping": False,
}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(n_cells=64, n_features=WIDE))


def model_of(cells: mudata.MuData) -> MultiVAE:
    torch.manual_seed(0)
    return make_model(cells, projections={"rna": 0, "atac": 4}, decoders="mlp", dropout=0.1)


def with_threads(n_threads: int, work: Callable[[], Any]) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = work()
        assert torch.get_num_threads() == n_threads
        return found
    finally:
        torch.set_num_threads(before)


class Watch(Callback):
    """Notes what a step runs with."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.optimizers: set[type] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.threads.add(torch.get_num_threads())
        self.optimizers.add(type(trainer.optimizers[0]))


@pytest.mark.parametrize("choices", [{}, {"n_features_per_step": 3000}], ids=["all", "drawn"])
def test_training_does_not_depend_on_the_number_of_threads(
    cells: mudata.MuData, choices: dict[str, Any]
) -> None:
    def weights(n_threads: int) -> dict[str, torch.Tensor]:
        model = model_of(cells)
        with_threads(n_threads, lambda: model.train(2, **CHOICES, **choices))
        found: dict[str, torch.Tensor] = model.module.state_dict()
        return found

    one, two = weights(1), weights(2)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_threads_of_blocks_multiply_alone(tmp_path: Path) -> None:
    """In a process of its own: a product that starts threads of its own is summed in another order."""
    script = tmp_path / "products.py"
    script.write_text(
        "import torch\n"
        "from multiomics_vae.kernels.compiled.blocks import Blocks\n"
        "torch.set_num_threads(2)\n"
        "left, right, found = torch.randn(64, 2048), torch.randn(2048, 2048), {}\n"
        "with Blocks() as blocks:\n"
        "    def multiply():\n"
        "        return torch.mm(left, right)\n"
        "    alone = multiply()\n"
        "    assert torch.equal(blocks._pool.submit(multiply).result(), alone)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run([sys.executable, str(script)], env=environment, check=True)


def test_wide_steps_leave_torch_one_thread_and_walk(cells: mudata.MuData) -> None:
    watch, model = Watch(), model_of(cells)
    with_threads(2, lambda: model.train(1, callbacks=[watch], **CHOICES))
    assert watch.threads == {1}
    assert watch.optimizers == {AveragingAdamW}


def test_clipped_gradients_are_left_to_pytorch(cells: mudata.MuData) -> None:
    watch, model = Watch(), model_of(cells)
    model.train(1, callbacks=[watch], gradient_clip=1.0, **CHOICES)
    assert watch.optimizers == {torch.optim.AdamW}


def test_walked_and_plain_steps_end_alike(cells: mudata.MuData) -> None:
    walked, clipped = model_of(cells), model_of(cells)
    walked.train(2, **CHOICES)
    clipped.train(2, gradient_clip=1e9, **CHOICES)  # PyTorch's AdamW; nothing is clipped
    for a, b in zip(walked.module.parameters(), clipped.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_gradients_that_are_not_numbers_end_a_walked_training(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiomics_vae.errors import TrainingDivergedError

    step = TrainingPlan.training_step

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        spoilt = gradient.clone()
        spoilt[-1, -1] = torch.nan
        return spoilt

    def with_spoilt(plan: TrainingPlan, *arguments: Any) -> torch.Tensor:
        plan.module.parts[0].decoder.last_layers[0].weight.register_hook(spoil)
        return step(plan, *arguments)

    monkeypatch.setattr(TrainingPlan, "training_step", with_spoilt)
    model = model_of(cells)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(TrainingDivergedError, match="modality 'rna'"):
        model.train(1, **CHOICES)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_answers_do_not_depend_on_the_number_of_threads(cells: mudata.MuData) -> None:
    """In inference mode, which a helping thread must enter too."""
    model = model_of(cells)
    model.train(1, **CHOICES)

    def answers() -> list[np.ndarray]:
        elbo = model.get_elbo()
        imputed = model.get_normalized("rna", n_samples=2)
        return [model.get_latent_representation(), np.asarray(elbo), np.asarray(imputed)]

    one, two = (with_threads(n, answers) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_which_models_need_one_thread_only(cells: mudata.MuData) -> None:
    model = model_of(cells)
    assert needs_one_thread(model.module, model._data, 128)
    zero_inflated = {"rna": "zinb"}
    plain = make_model(register(make_cells(zero_inflated, n_features=WIDE), zero_inflated))
    assert not needs_one_thread(plain.module, plain._data, 128)
    by_batch = make_model(
        register(make_cells(n_features=WIDE), batch_key="batch"), dispersions={"rna": "feature-batch"}
    )
    assert not needs_one_thread(by_batch.module, by_batch._data, 128)
    small = make_model(register(make_cells(zero_inflated), zero_inflated))
    assert needs_one_thread(small.module, small._data, 128)
    assert not needs_one_thread(small.module, small._data, 2**20)


# --- minibatches made ahead --------------------------------------------------------------------------


def test_transforms_done_ahead_are_those_of_the_encoder(cells: mudata.MuData) -> None:
    model = model_of(cells)
    plain = make_minibatch(model._data, np.arange(9))
    ahead = input_transforms(model.module)(plain)
    found, encoder = ahead.modalities[0].encoder_inputs, model.module.parts[0].encoder.eval()
    assert isinstance(found, SparseRows)
    assert torch.equal(found.to_dense(), encoder.transform(plain.modalities[0]).to_dense())
    beside = torch.zeros(9, 0)
    assert torch.equal(encoder(ahead.modalities[0], beside), encoder(plain.modalities[0], beside))
    assert ahead.modalities[1].encoder_inputs is None  # has a projection, which is worked out elsewhere


def test_minibatches_made_ahead_come_in_order_and_errors_at_their_turn(cells: mudata.MuData) -> None:
    data = model_of(cells)._data

    def finish(minibatch: Any) -> Any:
        if 40 in minibatch.cells:
            raise ValueError("cell 40")
        return minibatch

    loader = MinibatchLoader(data, np.arange(64), 16, finish=finish)
    visits = iter(loader)
    seen = [next(visits).cells.tolist() for _ in range(2)]
    with pytest.raises(ValueError, match="cell 40"):
        next(visits)
    assert seen == [list(range(16)), list(range(16, 32))]
