"""What goes wrong in the middle of a training. Numbers of rows are those of the catalogue of faults."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pytest
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.errors import DeviceError, MultiomicsWarning, TrainingDivergedError
from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.objective import Objective
from multiomics_vae.training.plan import TrainingPlan
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
STEPS = 2  # an epoch: 30 or 33 cells in minibatches of 17


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(n_cells=33, n_features=6))


def run(model: MultiVAE, max_epochs: int = 6, **choices: Any) -> MultiVAE:
    return train(model, max_epochs, batch_size=17, **{"validation_indices": [0, 1, 2], **choices})


def weights_of(model: MultiVAE) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.module.parameters()).detach()


def at_step(
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    act: Callable[[TrainingPlan], None],
    name: str = "training_step",
) -> None:
    """Do something just before one step of a training."""
    original = getattr(TrainingPlan, name)

    def interfere(self: TrainingPlan, *arguments: Any) -> Any:
        if self.global_step == step:
            act(self)
        return original(self, *arguments)

    monkeypatch.setattr(TrainingPlan, name, interfere)


def spoil_decoder(plan: TrainingPlan) -> None:
    with torch.no_grad():
        plan.module.parts[1].decoder.outputs[0].weight.fill_(torch.nan)


# Rows 41 and 42: the loss is no number any more


@pytest.mark.parametrize("choices", [{}, {"validation_indices": []}, {"early_stopping": False}])
def test_row_41_nan_names_step_term_and_modality(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    good = run(make_model(cells), 6, **choices)
    model = make_model(cells)
    at_step(monkeypatch, 2 * STEPS + 1, spoil_decoder)
    with pytest.raises(
        TrainingDivergedError,
        match=r"term 'log_likelihood' of modality 'atac' became nan at step 5\. The model has the weights "
        r"of epoch 2\. Try a smaller step: model\.train\(learning_rate=0\.0004, gradient_clip=10\.0\)",
    ):
        run(model, 6, **choices)
    assert model.is_trained
    assert model.history.n_epochs == 2
    assert model.history.to_json() == good.history.to_json()[:2]
    assert np.isfinite(model.get_elbo()).all()
    assert not model.module.training


def test_row_41_weights_are_those_of_the_best_epoch(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[torch.Tensor] = []
    closed = TrainingPlan._close_epoch

    def record(self: TrainingPlan, validation: dict[str, float]) -> None:
        closed(self, validation)
        kept.append(torch.nn.utils.parameters_to_vector(self.module.parameters()).detach().clone())

    monkeypatch.setattr(TrainingPlan, "_close_epoch", record)
    at_step(monkeypatch, 3 * STEPS, spoil_decoder)
    model = make_model(cells)
    with pytest.raises(TrainingDivergedError, match="the weights of epoch 3"):
        run(model, early_stopping=False)
    assert torch.equal(weights_of(model), kept[2])


def test_row_41_in_the_first_epoch_leaves_the_model_as_it_was(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(cells)
    before = weights_of(model)
    at_step(monkeypatch, 1, spoil_decoder)
    with pytest.raises(TrainingDivergedError, match="No pass was finished: the model has the weights it had"):
        run(model)
    assert not model.is_trained
    assert torch.equal(weights_of(model), before)
    monkeypatch.undo()
    assert run(model).is_trained


def test_row_41_in_the_first_epoch_of_a_trained_model(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run(make_model(cells))
    latent = model.get_latent_representation()
    at_step(monkeypatch, 1, spoil_decoder)
    with pytest.raises(TrainingDivergedError):
        run(model)
    np.testing.assert_array_equal(model.get_latent_representation(), latent)


def test_row_41_nan_on_held_out_cells_is_not_passed_over(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = Objective.__call__

    def spoil(self: Objective, module: Any, minibatch: Any, *rest: Any) -> LossTerms:
        terms = called(self, module, minibatch, *rest)
        if minibatch.n_cells == 3:
            terms.terms[0].value.fill_(torch.nan)
        return terms

    monkeypatch.setattr(Objective, "__call__", spoil)
    model = make_model(cells)
    with pytest.raises(
        TrainingDivergedError, match="of modality 'rna' became nan on held-out cells at step 2"
    ):
        run(model)
    assert not model.is_trained


@pytest.mark.parametrize(
    ("room", "where"),
    [
        ("encoder", r"modalities\.0\.encoder.* \(modality 'rna'\)"),
        ("decoder", r"modalities\.1\.decoder.* \(modality 'atac'\)"),
        ("huge", "The norm of the gradient"),
    ],
)
def test_row_41_gradient_names_the_modality(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch, room: str, where: str
) -> None:
    def spoil(plan: TrainingPlan) -> None:
        parts = plan.module.parts
        module = parts[0].encoder if room == "encoder" else parts[1].decoder
        parameter = next(p for p in module.parameters() if p.grad is not None)
        parameter.grad.fill_(3e38 if room == "huge" else torch.inf)

    at_step(monkeypatch, STEPS + 1, spoil, "on_before_optimizer_step")
    model = make_model(cells)
    with pytest.raises(
        TrainingDivergedError,
        match=where + r" stopped being finite at step 3\. The model has the weights of epoch 1",
    ):
        run(model)
    assert np.isfinite(model.get_elbo()).all()


@pytest.mark.parametrize("choices", [{}, {"validation_indices": []}, {"early_stopping": False}])
@pytest.mark.parametrize("rate", [1e10, 1e38])
def test_row_42_exploding_learning_rate(cells: mudata.MuData, rate: float, choices: dict[str, Any]) -> None:
    model = make_model(cells)
    before = weights_of(model)
    with pytest.raises(
        TrainingDivergedError, match=rf"step \d+.*learning_rate={re.escape(f'{rate / 10:g}')}"
    ):
        run(model, 30, learning_rate=rate, **choices)
    assert not model.is_trained
    assert torch.equal(weights_of(model), before)
    run(model)
    assert np.isfinite(model.get_elbo()).all()


def test_row_42_a_step_into_nowhere_at_the_very_end_is_seen(cells: mudata.MuData) -> None:
    """The one and only step spoils the weights, and no later step would tell."""
    model = make_model(cells)
    before = weights_of(model)
    with pytest.raises(TrainingDivergedError, match="No pass was finished"):
        train(model, 1, batch_size=100, validation_size=0, learning_rate=1e10)
    assert not model.is_trained
    assert torch.equal(weights_of(model), before)


def test_row_42_gradient_clipping_is_applied(cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def record(self: torch.optim.AdamW, closure: Any = None) -> Any:
        if closure is not None:
            loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self) or loss

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    run(make_model(cells), 2, gradient_clip=0.01)
    assert max(norms) <= 0.01 * (1 + 1e-4)
    assert len(norms) == 2 * STEPS


# Row 45: Ctrl-C


def interrupt(plan: TrainingPlan) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["training_step", "on_validation_start", "on_train_batch_end"])
def test_row_45_interruption_leaves_the_best_weights(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    model = make_model(cells)
    at_step(monkeypatch, 3 * STEPS, interrupt, name)
    n_closed = 3 if name == "training_step" else 2
    with pytest.warns(
        MultiomicsWarning, match=rf"interrupted; .* epoch {n_closed}\. Go on with model\.train"
    ):
        run(model)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    assert model.is_trained
    assert model.history.n_epochs == n_closed
    np.testing.assert_array_equal(
        model.get_latent_representation(), _stopped_after(cells, n_closed).get_latent_representation()
    )
    run(model, 2)
    assert model.history.n_epochs == 2


def _stopped_after(cells: mudata.MuData, n_epochs: int) -> MultiVAE:
    """The same training, ended by an error that keeps the best weights too."""
    model = make_model(cells)
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, n_epochs * STEPS, spoil_decoder)
        with pytest.raises(TrainingDivergedError):
            run(model)
    return model


def test_row_45_interruption_in_the_first_pass_keeps_the_average(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(cells)
    before = weights_of(model)
    at_step(monkeypatch, 1, interrupt)
    with pytest.warns(
        MultiomicsWarning, match="in its first pass; the model has the average weights of 1 step"
    ):
        run(model)
    assert model.is_trained
    assert not torch.equal(weights_of(model), before)
    assert np.isfinite(model.get_elbo()).all()


def test_row_45_interruption_before_the_first_step(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(cells)
    before = weights_of(model)
    at_step(monkeypatch, 0, interrupt)
    with pytest.warns(MultiomicsWarning, match="before its first step; the model is as it was"):
        run(model)
    assert not model.is_trained
    assert torch.equal(weights_of(model), before)


def test_row_45_another_exit_is_not_swallowed(cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's SIGTERM that a handler turns into SystemExit must end the program."""

    def leave(plan: TrainingPlan) -> None:
        raise SystemExit(3)

    at_step(monkeypatch, 2 * STEPS, leave)
    model = make_model(cells)
    with pytest.raises(SystemExit, match="3"):
        run(model)
    assert model.is_trained
    assert model.history.n_epochs == 2


CODE = """
import json, signal, sys, threading, time, warnings
sys.path.insert(0, sys.argv[1])
from small_models import make_model, train

# A shell's background job starts with SIGINT ignored; the person this is about has a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = make_model()
handler = signal.getsignal(signal.SIGINT)

def say_when():
    while model.history.n_epochs < 3:
        time.sleep(0.01)
    print("training", flush=True)

threading.Thread(target=say_when, daemon=True).start()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    train(model, 1_000_000, early_stopping=False)
n_epochs = model.history.n_epochs
latent = model.get_latent_representation()
train(model, 1)
print(json.dumps({
    "n_epochs": n_epochs, "trained": model.is_trained, "finite": bool((latent == latent).all()),
    "restored": signal.getsignal(signal.SIGINT) is handler,
    "warned": [str(w.message) for w in caught if "interrupted" in str(w.message)],
}))
"""


def test_row_45_real_ctrl_c() -> None:
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, tests], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["trained"]
    assert found["finite"]
    assert found["restored"]
    assert 3 <= found["n_epochs"] < 1_000_000
    assert len(found["warned"]) == 1


# Row 53: out of memory


@pytest.mark.parametrize(
    ("error", "batch_size", "match"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), 15, r"ran out at batch_size=15.*batch_size=7\)"),
        (RuntimeError("MPS backend out of memory (…)"), 15, r"batch_size=7\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 15, r"batch_size=7\)"),
        (torch.OutOfMemoryError("CUDA out of memory."), 1, "batch_size=1.*Make the model smaller"),
    ],
)
def test_row_53_out_of_memory(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch, error: Exception, batch_size: int, match: str
) -> None:
    def fail(plan: TrainingPlan) -> None:
        raise error

    at_step(monkeypatch, 30 // batch_size, fail)
    model = make_model(cells)
    with pytest.raises(DeviceError, match=match) as caught:
        train(model, 3, batch_size=batch_size, validation_indices=[0, 1, 2])
    assert caught.value.__cause__ is error
    assert model.is_trained
    assert np.isfinite(model.get_elbo()).all()


def test_row_53_other_errors_are_passed_on(cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: TrainingPlan) -> None:
        raise RuntimeError("shapes do not match")

    at_step(monkeypatch, 1, fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(make_model(cells))
