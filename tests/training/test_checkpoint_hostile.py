"""Whatever is put into the folder of a saved model is refused: not executed, not followed, not allocated."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from saved_models import FILES, example, reseal

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # slow, and not needed to set the scene
        save_checkpoint(tmp_path / "model", example())
    return tmp_path / "model"


# Bad input 58: nothing is executed


class Payload:
    """Writes a canary file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.canary), "w"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("kind", ["pickle", "torch", "zip"])
def test_row_58_pickle_payload_is_refused_and_not_executed(
    saved: Path, name: str, sealed: bool, kind: str
) -> None:
    canary = saved.parent / "canary"
    buffer = io.BytesIO()
    if kind == "pickle":
        pickle.dump(Payload(canary), buffer)
        pickle.loads(buffer.getvalue()).close()
        assert canary.exists(), "the payload must work, or this test proves nothing"
        canary.unlink()
    elif kind == "torch":
        torch.save({"state_dict": Payload(canary)}, buffer)
    else:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("../../escaped", "out")
    (saved / name).write_bytes(buffer.getvalue())
    if sealed and name != "manifest.json":
        reseal(saved)
    what = "may be a pickle" if kind == "pickle" else "is a zip archive"
    with pytest.raises(CheckpointError, match=what):
        load_checkpoint(saved)
    assert os.listdir(saved.parent) == ["model"]


# Bad input 59: nothing outside the folder is read


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "a/../../secret.json", "..", "extra.json"])
def test_row_59_manifest_cannot_point_elsewhere(saved: Path, name: str) -> None:
    (saved.parent / "secret.json").write_text("{}")
    reseal(saved, lambda manifest: manifest["files"].update({name: {"bytes": 2, "sha256": "0"}}))
    with pytest.raises(CheckpointError, match="must list exactly"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", FILES)
def test_row_59_links_and_devices_are_not_followed(saved: Path, name: str) -> None:
    (saved / name).rename(saved.parent / "outside")
    (saved / name).symlink_to(saved.parent / "outside")
    with pytest.raises(CheckpointError, match=rf"{name} is a link.*cp -rL"):
        load_checkpoint(saved)
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(CheckpointError, match="not an ordinary file"):
        load_checkpoint(saved)


# Bad input 60: refused before anything is allocated


def with_header(header: Mapping[str, Any] | bytes, payload: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ([10**12], "F32"),
        ([10**6, 10**6], "F32"),
        ([0, 10**12], "F32"),
        ([100], "F64"),
        ([2**63] * 9, "F32"),
        ([-1], "F32"),
        ([1.0], "F32"),
        ([True], "F32"),
        ([1] * 100, "F32"),
        ("1", "F32"),
        ([1], "F99"),
        ([1], None),
    ],
)
@pytest.mark.parametrize("place", ["manifest", "header", "both"])
def test_row_60_absurd_tensors_allocate_nothing(
    saved: Path, shape: Any, dtype: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(data: bytes) -> None:
        raise AssertionError("the weights were given to the loader")

    monkeypatch.setattr(safetensors.torch, "load", never)
    honest = {"w": {"shape": [1], "dtype": "F32"}}
    absurd = {"w": {"shape": shape, "dtype": dtype}}
    header = {"w": {**(honest if place == "manifest" else absurd)["w"], "data_offsets": [0, 4]}}
    (saved / "weights.safetensors").write_bytes(with_header(header, bytes(4)))
    reseal(saved, lambda manifest: manifest.update(tensors=honest if place == "header" else absurd))
    with pytest.raises(CheckpointError, match=r"declares|disagree|bytes"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "weights",
    [
        with_header({"w": {"shape": [1], "dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
        with_header({"w": {"shape": [1], "dtype": "F32", "data_offsets": [4, 8]}}, bytes(8)),
        with_header({"w": {"shape": [1], "dtype": "F32", "data_offsets": [0, 2**60]}}, bytes(4)),
        with_header({"w": {"shape": [1], "dtype": "F32"}}, bytes(4)),
        with_header({"w": [1]}, bytes(4)),
        with_header(
            {"w": {"shape": [1], "dtype": "F32", "data_offsets": [0, 4]}}, struct.pack("<f", float("nan"))
        ),
        with_header(b'{"w": {}, "w": {}}', bytes(4)),
        with_header(b"[]", bytes(4)),
        struct.pack("<Q", 2**63) + bytes(100),
        bytes(4),
    ],
)
def test_malformed_weights_are_refused_though_sealed(saved: Path, weights: bytes) -> None:
    (saved / "weights.safetensors").write_bytes(weights)
    reseal(saved, lambda manifest: manifest.update(tensors={"w": {"shape": [1], "dtype": "F32"}}))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "schema.json", "history.json"])
@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"a":' + b"[" * 100_000, "nested more than"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "Infinity is not a number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"a": 18446744073709551616}', "too large"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'"' + b'\\"' * 500_000, "not JSON"),
        (b"[1]", "must hold a JSON object"),
        (b"", "not JSON"),
    ],
)
def test_malformed_json_is_refused_though_sealed(saved: Path, name: str, text: bytes, match: str) -> None:
    (saved / name).write_bytes(text)
    if name != "manifest.json":
        reseal(saved)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(saved)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_brackets_in_text_are_not_nesting(tmp_path: Path) -> None:
    config = {"note": "[{" * 1000 + '\\"' + "[" * 1000, "[" * 50: 1}
    save_checkpoint(tmp_path / "model", replace(example(), config=config))
    assert load_checkpoint(tmp_path / "model").config == config


@pytest.mark.parametrize("name", FILES)
def test_huge_file_is_not_read(saved: Path, name: str) -> None:
    with open(saved / name, "r+b") as file:
        file.truncate(2**36)  # sparse: it takes no room
    with pytest.raises(CheckpointError, match=r"at most .* are read"):
        load_checkpoint(saved)
