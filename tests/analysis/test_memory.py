"""Memory that runs out in an answer is said with the batch size to try next, which works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.errors import DeviceError, InputError, is_out_of_memory
from multiomics_vae.module import MultimodalModule
from small_models import make_model, train

ANSWERS: dict[str, Callable[..., Any]] = {
    "latent": lambda model, **k: model.get_latent_representation(**k),
    "samples": lambda model, **k: model.get_latent_samples(**k),
    "weights": lambda model, **k: model.get_expert_weights(**k),
    "elbo": lambda model, **k: model.get_elbo(**k),
    "log_likelihood": lambda model, **k: model.get_log_likelihood(**k),
    "normalized": lambda model, **k: model.get_normalized("rna", **k),
}


@pytest.fixture(scope="module")
def model() -> MultiVAE:
    return train(make_model())


def most_cells(monkeypatch: pytest.MonkeyPatch, n: int, error: BaseException) -> None:
    """Let inference fail for more than n cells at a time."""
    whole = MultimodalModule.encode

    def encode(module: MultimodalModule, minibatch: Any) -> Any:
        if minibatch.n_cells > n:
            raise error
        return whole(module, minibatch)

    monkeypatch.setattr(MultimodalModule, "encode", encode)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_suggested_batch_size_ends_in_an_answer(
    model: MultiVAE, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    expected = np.asarray(ANSWERS[answer](model))
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    most_cells(monkeypatch, 9, error)
    batch_size, tried = 40, []
    while batch_size > 9:
        with pytest.raises(DeviceError) as refused:
            ANSWERS[answer](model, batch_size=batch_size)
        assert refused.value.__cause__ is error
        tried.append(batch_size)
        batch_size = int(re.search(r"with half: batch_size=(\d+)$", str(refused.value))[1])
    assert tried == [40, 20, 10]
    found = np.asarray(ANSWERS[answer](model, batch_size=batch_size))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.is_inference_mode_enabled()


def test_at_one_cell_something_else_is_suggested(model: MultiVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    most_cells(monkeypatch, 0, MemoryError())
    with pytest.raises(DeviceError, match=r"ran out at batch_size=1\. Ask for fewer.*to_device\('cpu'\)"):
        model.get_elbo(batch_size=1)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), InputError("wrong"), KeyError("x")])
def test_other_errors_are_passed_on(
    model: MultiVAE, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    most_cells(monkeypatch, 0, error)
    with pytest.raises(type(error)) as caught:
        model.get_latent_representation()
    assert caught.value is error


def test_what_torch_and_numpy_really_raise_is_recognised() -> None:
    for allocate in (lambda: torch.empty(1 << 55), lambda: np.empty(1 << 55)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
        with pytest.raises(DeviceError, match=r"batch_size=4$"), memory_for(9):
            allocate()
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA error"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 2 GB)"))
    assert not is_out_of_memory(RuntimeError("The size of tensor a must match"))


def test_an_answer_too_large_for_the_memory_is_sent_to_a_file(
    model: MultiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 745. GiB")

    monkeypatch.setattr("multiomics_vae.analysis.normalized.np.empty", refuse)
    with pytest.raises(DeviceError, match=r"40 cells by 10 features.*model\.write_normalized\("):
        model.get_normalized("rna")


def test_a_file_that_cannot_be_written_ends_the_inference(
    model: MultiVAE, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error keeps the frames of the writing alive, as a notebook does; gradients must be there again."""

    def refuse(path: Path, blocks: Any, *_: Any) -> None:
        next(blocks)
        raise OSError("No space left on device")

    monkeypatch.setattr("multiomics_vae.exports.write_table", refuse)
    with pytest.raises(OSError, match="No space left") as kept:
        model.write_normalized(tmp_path / "out.h5ad", "rna", batch_size=4)
    assert kept.value.__traceback__ is not None
    assert not torch.is_inference_mode_enabled()
