"""Training with rounded factors of products: near to float32, only where asked, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multiomics_vae import MultiVAE, datasets
from multiomics_vae.errors import InputError, TrainingDivergedError
from multiomics_vae.objective import Objective
from multiomics_vae.training import fit as fit_module
from multiomics_vae.training import precision as precision_module
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.precision import TrainingProducts, has_fast_bfloat16, product_dtype
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")

CPU = torch.device("cpu")


def switch() -> str:
    found: str = precision_module._SWITCH.fp32_precision
    return found


@pytest.mark.parametrize("is_fast", [True, False])
def test_auto_asks_the_hardware_and_words_are_taken(is_fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_module, "has_fast_bfloat16", lambda device: is_fast)
    assert product_dtype("auto", CPU) == (torch.bfloat16 if is_fast else None)
    assert product_dtype("bfloat16", CPU) == torch.bfloat16
    assert product_dtype("float32", CPU) is None


def test_hardware_is_what_the_processor_says() -> None:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("no list of processor flags here")
    assert has_fast_bfloat16(CPU) == ("avx512_bf16" in flags or "amx_tile" in flags)


@pytest.mark.parametrize("value", ["bf16", "float16", None, 32])
def test_unknown_precision(value: Any) -> None:
    with pytest.raises(InputError, match=r"There is no precision=.*"):
        TrainingConfig(precision=value)


def test_switch_is_put_back_however_often() -> None:
    before = switch()
    products = TrainingProducts("bfloat16")
    products.restore()
    for _ in range(2):
        products.round_on(CPU)
        assert switch() == "bf16"
        products.round_on(CPU)
        products.restore()
        products.restore()
        assert switch() == before


@pytest.mark.parametrize("is_narrow", [False, True])
def test_steps_are_rounded_and_nothing_else(is_narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch is on in training steps, off in validation, and as before after the training.

    Where all dense layers are narrow it stays off, and first products of sparse rows are rounded alone.
    """
    monkeypatch.setattr(fit_module, "needs_one_thread", lambda *_: is_narrow)
    seen: list[tuple[bool, str, torch.dtype | None]] = []
    read: set[torch.dtype | None] = set()
    call = Objective.__call__

    def watch(self: Objective, *arguments: Any) -> Any:
        economy = arguments[4] if len(arguments) > 4 else None
        seen.append((arguments[0].training, switch(), economy and economy.product_dtype))
        if arguments[0].training:
            read.update(part.encoder.hidden.sparse_product_dtype for part in arguments[0].parts)
        else:
            assert all(part.encoder.hidden.sparse_product_dtype is None for part in arguments[0].parts)
        return call(self, *arguments)

    monkeypatch.setattr(Objective, "__call__", watch)
    before = switch()
    train(make_model(register(make_cells())), 2, precision="bfloat16")
    assert set(seen) == {(True, before if is_narrow else "bf16", torch.bfloat16), (False, before, None)}
    assert read == ({torch.bfloat16} if is_narrow else {None})
    assert switch() == before
    seen.clear()
    read.clear()
    train(make_model(register(make_cells())), 2)
    assert set(seen) == {(True, before, None), (False, before, None)}
    assert read == {None}


def test_switch_is_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TrainingPlan, *_: Any) -> None:
        raise TrainingDivergedError("no")

    monkeypatch.setattr(TrainingPlan, "_check_finite", fail)
    before = switch()
    with pytest.raises(TrainingDivergedError):
        train(make_model(register(make_cells())), 1, precision="bfloat16")
    assert switch() == before


def test_weights_and_moments_stay_float32() -> None:
    model = train(make_model(register(make_cells())), 2, precision="bfloat16")
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


@pytest.mark.slow
def test_rounded_products_train_as_well_as_float32() -> None:
    """Held-out ELBO of real cells after the same epochs: within 0.1 %."""
    mdata = datasets.snareseq_mouse_cortex()[:2000].copy()
    MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb", "atac": "bernoulli"}, batch_key="batch")
    elbo = {}
    for precision in ("float32", "bfloat16"):
        model = MultiVAE(mdata)
        model.train(4, precision=precision, accelerator="cpu", progress=False)
        elbo[precision] = model.history["elbo_validation"].to_numpy()
    assert not np.array_equal(elbo["bfloat16"], elbo["float32"])
    np.testing.assert_allclose(elbo["bfloat16"], elbo["float32"], rtol=1e-3)
