"""Any checkpoint, with any byte of it changed: it is refused, or it is the same."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_models import FILES, assert_same, content_of, reseal

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) 
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
json_objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
names = st.text("abc._γ", min_size=1, max_size=12)
dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    start = draw(st.integers(0, 50))
    return torch.arange(start, start + int(np.prod(shape))).reshape(shape).to(draw(dtypes))


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes]]:
    """One of the files, and what is done to its bytes."""
    where, byte = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=3))
    how = draw(st.sampled_from(["bit", "flip", "insert", "delete", "truncate", "repeat"]))

    def mutate(data: bytes) -> bytes:
        i = int(where * (len(data) - 1))
        return {
            "bit": data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :],
            "flip": data[:i] + bytes([data[i] ^ (byte[0] or 1)]) + data[i + 1 :],
            "insert": data[:i] + byte + data[i:],
            "delete": data[:i] + data[i + len(byte) :],
            "truncate": data[:i],
            "repeat": data[:i] + data[max(i - 8, 0) :],
        }[how]

    return draw(st.sampled_from(FILES)), mutate


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[Checkpoint, list[tuple[str, Callable[[bytes], bytes]]]]:
    """A checkpoint, and several ways to damage it."""
    checkpoint = Checkpoint(
        "MultiVAE",
        draw(json_objects),
        {"modalities": [{"name": "rna", "features": ["CD3E", "MS4A1"]}]},
        {"epochs": draw(json_values), "loss": [12.5, 11.25]},
        {"weight": torch.arange(1.0, 40.0), **draw(st.dictionaries(names, tensors(), max_size=3))},
    )
    return checkpoint, draw(st.lists(mutations(), min_size=4, max_size=8))


quick = settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing hundreds of tiny files takes most of the time and changes nothing that is tested here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@given(drawn=checkpoints())
@quick
def test_a_mutated_checkpoint_is_refused_or_unchanged(drawn: Any, no_flush: None) -> None:
    checkpoint, damages = drawn
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save_checkpoint(folder, checkpoint)
        assert_same(load_checkpoint(folder), checkpoint)
        for name, mutate in damages:
            before = (folder / name).read_bytes()
            after = mutate(before)
            (folder / name).write_bytes(after)
            try:
                found = load_checkpoint(folder)
            except CheckpointError:
                assert after != before
            else:
                assert_same(found, checkpoint)
            (folder / name).write_bytes(before)


@given(drawn=checkpoints())
@quick
def test_a_mutated_and_resealed_checkpoint_gives_no_other_error(drawn: Any, no_flush: None) -> None:
    checkpoint, damages = drawn
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save_checkpoint(folder, checkpoint)
        sealed = content_of(folder)
        for name, mutate in damages:
            (folder / name).write_bytes(mutate(sealed[name]))
            if name != "manifest.json":
                reseal(folder)
            try:
                found = load_checkpoint(folder)
            except CheckpointError:
                pass
            else:
                save_checkpoint(Path(parent) / "again", found)
                assert_same(load_checkpoint(Path(parent) / "again"), found)
                shutil.rmtree(Path(parent) / "again")
            for untouched, content in sealed.items():
                (folder / untouched).write_bytes(content)
