"""A small saved model, and what tests do to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from multiomics_vae.training.checkpoint import Checkpoint

FILES = ("manifest.json", "weights.safetensors", "config.json", "schema.json", "history.json")


def example() -> Checkpoint:
    return Checkpoint(
        class_name="MultiVAE",
        config={"n_latent": 20, "fusion": "gated", "nested": {"beta": 0.5, "free_bits": None}},
        schema={"modalities": [{"name": "rna", "features": ["CD3E", "γ-globin", "a/b"]}]},
        history={"loss": [3.0, 2.5]},
        tensors={
            "weight": torch.arange(6.0).reshape(2, 3),
            "steps": torch.tensor(7),
            "empty": torch.zeros(0, 4),
            "open": torch.tensor([True, False]),
            "half": torch.tensor([1.5], dtype=torch.bfloat16),
        },
    )


def assert_same(found: Checkpoint, wanted: Checkpoint) -> None:
    assert found.class_name == wanted.class_name
    assert (found.config, found.schema, found.history) == (wanted.config, wanted.schema, wanted.history)
    assert list(found.tensors) == list(wanted.tensors)
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor.detach().cpu())


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Make every checksum right again, as someone who tampers on purpose would."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(manifest)
    manifest.pop("manifest_sha256")
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    manifest["manifest_sha256"] = hashlib.sha256(canonical).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
