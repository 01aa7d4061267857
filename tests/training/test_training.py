"""How a model is trained: sizes, splits, schedules, early stopping, names in the history."""

from __future__ import annotations

import math
import threading
from typing import Any

import mudata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import Dropout

from multiomics_vae import MultiVAE
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.errors import DeviceError, InputError, NotFittedError
from multiomics_vae.objective import Objective, ObjectiveConfig
from multiomics_vae.training import schedule
from multiomics_vae.training.config import FEWEST_EPOCHS, FEWEST_STEPS, TrainingConfig
from multiomics_vae.training.history import History
from multiomics_vae.training.plan import VALIDATION_SEED, TrainingPlan
from multiomics_vae.training.run import TrainingRun, split_cells
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(n_cells=33, n_features=6))


def held_out_elbo(model: MultiVAE, batch_size: int = 16) -> float:
    """The ELBO of the held-out cells, with the noise that training sees them with."""
    objective = Objective(ObjectiveConfig(), (1.0, 1.0), len(model.train_indices))
    noise = torch.Generator().manual_seed(VALIDATION_SEED)
    total = 0.0
    with torch.no_grad():
        for minibatch in MinibatchLoader(model._data, model.validation_indices, batch_size):
            total += float(objective(model.module, minibatch, 1.0, noise).elbo) * minibatch.n_cells
    return total / len(model.validation_indices)


# Rows 39 and 40: sizes


@pytest.mark.parametrize("batch_size", [1, 2, 4, 15, 16, 29, 30, 31, 1000])
def test_row_39_any_batch_size(cells: mudata.MuData, batch_size: int) -> None:
    model = train(make_model(cells), 1, batch_size=batch_size, validation_size=3 / 33)
    assert (len(model.train_indices), len(model.validation_indices)) == (30, 3)
    assert np.isfinite(model.get_elbo()).all()


@pytest.mark.parametrize("fusion", ["gated", "mixture"])
def test_row_39_one_cell_is_left_over(fusion: str) -> None:
    """Cells one at a time, many of them without one of the modalities."""
    mdata = register(make_cells(n_cells=17, n_features=6, lacking={"atac": range(6), "rna": range(6, 12)}))
    for batch_size in (1, 8):
        model = train(make_model(mdata, fusion=fusion), 1, batch_size=batch_size, validation_size=0)
        assert np.isfinite(model.get_elbo()).all()


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, 16.0, "16", True, None])
def test_row_40_batch_sizes_that_make_no_sense(cells: mudata.MuData, batch_size: Any) -> None:
    with pytest.raises(InputError, match=r"batch_size must be a whole number of at least 1.*batch_size=128"):
        train(make_model(cells), batch_size=batch_size)


def test_row_40_batch_size_of_numpy_and_above_all_cells(cells: mudata.MuData) -> None:
    assert train(make_model(cells), 1, batch_size=np.int64(10_000)).is_trained


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"max_epochs": 0}, r"max_epochs must be .* at least 1, not 0: model\.train\(max_epochs=20\)"),
        ({"max_epochs": 2.0}, r"max_epochs .* not 2\.0"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0, not inf"),
        ({"learning_rate": "1e-3"}, "learning_rate must be above 0, not '1e-3'"),
        ({"weight_decay": -1}, r"weight_decay must be a number of at least 0.*train\(weight_decay=0\)"),
        ({"gradient_clip": math.nan}, "gradient_clip must be a number of at least 0"),
        ({"warmup_epochs": -1}, "warmup_epochs must be a number of at least 0"),
        ({"validation_size": 1.0}, "validation_size is a share of the cells"),
        ({"validation_size": "10%"}, "validation_size is a share of the cells"),
        ({"weight_averaging": 1.0}, "weight_averaging is a decay from 0 to below 1"),
        ({"patience": 0}, "patience must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 1.5}, r"seed must be a whole number of at least 0, not 1\.5"),
    ],
)
def test_choices_that_make_no_sense(choices: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        TrainingConfig(**choices)


def test_numbers_of_epochs() -> None:
    config = TrainingConfig(batch_size=100)
    assert config.n_epochs(10**6) == FEWEST_EPOCHS
    assert config.n_epochs(950) == FEWEST_STEPS // 10
    assert config.n_warmup_epochs(950) == FEWEST_STEPS / 40
    assert config.n_patient_epochs(950) == FEWEST_STEPS // 40
    assert TrainingConfig(max_epochs=7, patience=3, warmup_epochs=0).n_epochs(10) == 7
    assert TrainingConfig(max_epochs=7, warmup_epochs=0).n_warmup_epochs(10) == 0
    assert TrainingConfig(max_epochs=7, patience=3).n_patient_epochs(10) == 3


# Who is held out


def test_split_covers_every_cell_once() -> None:
    training, validation = split_cells(101, 0.1, seed=5)
    assert len(validation) == 10
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(101))
    np.testing.assert_array_equal(split_cells(101, 0.1, seed=5)[1], validation)
    assert not np.array_equal(split_cells(101, 0.1, seed=6)[1], validation)


@pytest.mark.parametrize(
    ("n_cells", "size", "n_held_out"), [(10, 0.0, 0), (10, 0.001, 1), (3, 0.99, 2), (10, 0.5, 5)]
)
def test_split_holds_out_at_least_one_and_trains_on_one(n_cells: int, size: float, n_held_out: int) -> None:
    training, validation = split_cells(n_cells, size, seed=0)
    assert (len(training), len(validation)) == (n_cells - n_held_out, n_held_out)


def test_nothing_held_out(cells: mudata.MuData) -> None:
    model = train(make_model(cells), 3, validation_size=0)
    assert len(model.train_indices) == 33
    assert len(model.validation_indices) == 0
    assert model.history.n_epochs == 3
    assert not any("validation" in name for name in model.history)


def test_held_out_cells_named_in_any_way(cells: mudata.MuData) -> None:
    mask = np.arange(33) % 5 == 0
    for indices in (mask, np.flatnonzero(mask), list(cells.obs_names[mask]), [0, 0, 5, 10, 15, 20, 25, -3]):
        model = train(make_model(cells), 1, validation_indices=indices)
        np.testing.assert_array_equal(model.validation_indices, np.flatnonzero(mask))
        np.testing.assert_array_equal(model.train_indices, np.flatnonzero(~mask))
    assert len(train(make_model(cells), 1, validation_indices=[]).validation_indices) == 0


def test_held_out_cells_that_make_no_sense(cells: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"All 33 cells are held out.*validation_size=0\.1"):
        train(make_model(cells), validation_indices=range(33))
    with pytest.raises(InputError, match="'d1' that is not there"):
        train(make_model(cells), validation_indices=["c1", "d1"])


def test_held_out_cells_are_not_learned_from(cells: mudata.MuData) -> None:
    """Values of held-out cells that change after the model was made leave the same weights."""
    weights = []
    for change in (0, 5):
        model = make_model(cells, transforms={"rna": "log1p", "atac": "binarise"})
        table = model._data.modalities[0]
        held_out = table.row_of_cell[[1, 2]]
        kept = table.values[held_out].copy()
        table.values[held_out] = kept + change * (kept > 0)
        train(model, 3, validation_indices=[1, 2], early_stopping=False)
        weights.append(torch.nn.utils.parameters_to_vector(model.module.parameters()))
    assert torch.equal(*weights)


def test_overlapping_cells_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"2 cells are both trained on and held out, the first at position 4"
    ):
        TrainingRun(TrainingConfig(), ObjectiveConfig(), (1.0, 1.0), False, np.arange(6), np.arange(4, 9))


# What is kept


def test_early_stopping_keeps_the_best_weights(cells: mudata.MuData) -> None:
    model = train(
        make_model(cells), 200, learning_rate=5e-2, patience=4, weight_averaging=0.0, validation_size=0.3
    )
    elbo = model.history["elbo_validation"]
    assert model.history.n_epochs < 200
    assert elbo.argmax() == model.history.n_epochs - 1 - 4
    assert elbo.iloc[-1] < elbo.max() - 0.01
    assert held_out_elbo(model) == pytest.approx(elbo.max(), rel=1e-5)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_without_early_stopping_the_last_weights_are_kept(cells: mudata.MuData, averaging: float) -> None:
    """With β = 0 the codes grow without bound, and the ELBO, whose β is 1, falls."""
    choices = {"early_stopping": False, "weight_averaging": averaging, "validation_size": 0.3}
    model = train(make_model(cells), 25, learning_rate=5e-2, kl_weight=0.0, **choices)
    elbo = model.history["elbo_validation"]
    assert model.history.n_epochs == 25
    assert elbo.iloc[-1] < elbo.max() - 0.01
    assert held_out_elbo(model) == pytest.approx(elbo.iloc[-1], rel=1e-5)


def test_the_averaged_weights_are_validated_and_kept(cells: mudata.MuData) -> None:
    model = train(make_model(cells), 10, learning_rate=2e-2, weight_averaging=0.95)
    assert held_out_elbo(model) == pytest.approx(model.history["elbo_validation"].max(), rel=1e-5)
    assert not model.module.training


def test_a_second_training_has_dropout_too(cells: mudata.MuData) -> None:
    seen: list[bool] = []

    class Mode(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
            seen.extend(module.training for module in pl_module.modules() if isinstance(module, Dropout))

    model = make_model(cells)
    for _ in range(2):
        model.train(1, progress=False, callbacks=[Mode()])
    assert seen
    assert all(seen)


# Schedules


def test_learning_rate_rises_and_falls_along_a_cosine(
    cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def record(self: TrainingPlan, optimizer: torch.optim.Optimizer) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(TrainingPlan, "on_before_optimizer_step", record)
    train(make_model(cells), 15, batch_size=4, learning_rate=1e-2, early_stopping=False)
    n_steps = 15 * 8
    assert len(rates) == n_steps
    steps = np.arange(n_steps)
    cosine = 0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * steps / n_steps))
    np.testing.assert_allclose(rates, 1e-2 * np.minimum(1.0, (steps + 1) / 12) * cosine, rtol=1e-6)
    assert schedule.WARM_STEPS == 100


def test_kl_warms_up_in_a_straight_line(cells: mudata.MuData) -> None:
    choices = {"warmup_epochs": 4, "kl_weight": 0.5, "early_stopping": False}
    weights = train(make_model(cells), 6, **choices).history["kl_weight"]
    np.testing.assert_allclose(weights, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
    at_once = train(make_model(cells), 2, warmup_epochs=0).history["kl_weight"]
    np.testing.assert_allclose(at_once, 1.0)
    usual = train(make_model(cells), 8, early_stopping=False).history["kl_weight"]
    np.testing.assert_allclose(usual, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_weight_decay_is_on_matrices_only(cells: mudata.MuData) -> None:
    model = make_model(cells)
    plan = TrainingPlan(
        model.module,
        Objective(ObjectiveConfig(), (1.0, 1.0), 30),
        TrainingConfig(weight_decay=0.1, max_epochs=1),
        ("rna", "atac"),
        History(),
    )
    matrices, vectors = plan.configure_optimizers()["optimizer"].param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in vectors["params"]} <= {0, 1}
    assert min(p.ndim for p in matrices["params"]) == 2
    n_parameters = sum(p.requires_grad for p in model.module.parameters())
    assert len(matrices["params"]) + len(vectors["params"]) == n_parameters


# History


def test_names_in_the_history(cells: mudata.MuData) -> None:
    history = train(make_model(cells), 3).history
    expected = {f"{name}_{part}" for name in ("elbo", "loss", "kl") for part in ("train", "validation")}
    expected |= {f"{m}_log_likelihood_{part}" for m in ("rna", "atac") for part in ("train", "validation")}
    assert expected | {"kl_weight"} <= set(history)
    assert len(history["elbo_train"]) == 3
    frame = history.to_frame()
    for part in ("train", "validation"):
        terms = (
            frame[f"rna_log_likelihood_{part}"] + frame[f"atac_log_likelihood_{part}"] - frame[f"kl_{part}"]
        )
        np.testing.assert_allclose(terms, frame[f"elbo_{part}"], rtol=1e-4)


def test_log_likelihoods_are_averages_over_the_cells_that_have_the_modality() -> None:
    """A modality that most cells lack: its average is over the few, the ELBO's over all."""
    mdata = register(make_cells(n_cells=20, n_features=6, lacking={"atac": range(14)}))
    model = train(make_model(mdata), 1, learning_rate=1e-12, validation_indices=range(10, 20))
    likelihood = model.get_log_likelihood(indices=range(10, 20), n_samples=200).mean()
    last = model.history.last
    assert last["atac_log_likelihood_validation"] == pytest.approx(likelihood["atac"], rel=0.05)
    assert last["rna_log_likelihood_validation"] == pytest.approx(likelihood["rna"], rel=0.05)
    share = model._data.present[10:, 1].mean()
    whole = last["rna_log_likelihood_validation"] + share * last["atac_log_likelihood_validation"]
    assert last["elbo_validation"] == pytest.approx(whole - last["kl_validation"], rel=1e-4)
    assert 0 < share < 1


def test_a_modality_that_no_held_out_cell_has_is_nan() -> None:
    mdata = register(make_cells(n_cells=20, n_features=6, lacking={"atac": range(5)}))
    position = [int(name[1:]) < 5 for name in mdata.obs_names]
    model = train(make_model(mdata), 2, validation_indices=position)
    assert model.history["atac_log_likelihood_validation"].isna().all()
    assert np.isfinite(model.history["elbo_validation"]).all()


# Devices, threads and the progress bar


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param(
            {"accelerator": "gpu"}, marks=pytest.mark.skipif(torch.cuda.is_available(), reason="is there")
        ),
        {"accelerator": "gup"},
        {"devices": 0},
    ],
)
def test_row_52_absent_device(cells: mudata.MuData, choices: dict[str, Any]) -> None:
    model = make_model(cells)
    with pytest.raises(DeviceError, match=r"Lightning cannot use accelerator=.*accelerator='auto'"):
        train(model, **choices)
    assert not model.is_trained


def test_training_in_another_thread(cells: mudata.MuData) -> None:
    model = make_model(cells)
    thread = threading.Thread(target=train, args=(model,))
    thread.start()
    thread.join()
    assert model.is_trained
    latent = train(make_model(cells)).get_latent_representation()
    np.testing.assert_array_equal(model.get_latent_representation(), latent)


def test_progress_is_shown_and_counted(cells: mudata.MuData, capsys: pytest.CaptureFixture[str]) -> None:
    train(make_model(cells), 3, progress=True)
    shown = capsys.readouterr().err
    assert "Training: 100%" in shown
    assert "3/3" in shown
    for word in ("elbo=", "kl=", "rna=", "atac="):
        assert word in shown


def test_no_bar_for_a_training_that_cannot_begin(
    cells: mudata.MuData, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError):
        train(make_model(cells), accelerator="gup", progress=True)
    assert capsys.readouterr().err == ""


class Asking(Callback):
    """Asks the model in the middle of its training."""

    def __init__(self, model: MultiVAE) -> None:
        self.model = model
        self.elbos: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.elbos.append(held_out_elbo(self.model))


def test_callbacks_can_ask_the_model_that_is_validated(cells: mudata.MuData) -> None:
    model = make_model(cells)
    asking = Asking(model)
    model.train(3, batch_size=16, progress=False, callbacks=[asking])
    np.testing.assert_allclose(asking.elbos, model.history["elbo_validation"], rtol=1e-5)
    assert np.isfinite(model.get_latent_representation()).all()


def test_callbacks_cannot_make_an_untrained_model_answer(cells: mudata.MuData) -> None:
    class Failing(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            raise ValueError("mine")

    model = make_model(cells)
    with pytest.raises(ValueError, match="mine"):
        model.train(1, progress=False, callbacks=[Failing()])
    with pytest.raises(NotFittedError):
        model.get_latent_representation()
