"""A saved model is read back as it was, or refused with an error that names what is wrong with it."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from saved_models import FILES, assert_same, content_of, example, reseal

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training import checkpoint as checkpoint_module
from multiomics_vae.training.checkpoint import (
    Checkpoint,
    check_tensors,
    load_checkpoint,
    read_manifest,
    save_checkpoint,
)
from multiomics_vae.training.manifest import FORMAT_VERSION, OLDEST_VERSION

FIXTURE = Path(__file__).parents[1] / "fixtures" / "checkpoint_v1"


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # slow, and not needed to set the scene
        save_checkpoint(tmp_path / "model", example())
    return tmp_path / "model"


# Round trips


def test_what_is_saved_is_read_back(saved: Path) -> None:
    assert_same(load_checkpoint(saved, expected_class="MultiVAE"), example())
    assert sorted(os.listdir(saved)) == sorted(FILES)
    assert os.listdir(saved.parent) == ["model"]


def test_the_same_checkpoint_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    reordered = replace(example(), tensors=dict(example().tensors))
    save_checkpoint(tmp_path / "deep" / "er" / "again", reordered)
    assert content_of(tmp_path / "deep" / "er" / "again") == content_of(saved)


def test_parameters_views_and_shared_memory_are_saved_by_value(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    tensors = {"a": weight, "tied": weight, "t": weight.t(), "row": weight[1], "every_other": weight[:, ::2]}
    save_checkpoint(tmp_path / "model", replace(example(), tensors=tensors))
    loaded = load_checkpoint(tmp_path / "model").tensors
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert not any(tensor.requires_grad for tensor in loaded.values())
    loaded["a"].zero_()
    assert loaded["tied"].sum() == 66


def test_mappings_and_tuples_come_back_as_objects_and_lists(tmp_path: Path) -> None:
    config = MappingProxyType({"hidden": (128, 64), "rate": np.float64(0.1), "big": -(2**64) + 1})
    save_checkpoint(tmp_path / "model", replace(example(), config=config))
    assert load_checkpoint(tmp_path / "model").config == {
        "hidden": [128, 64],
        "rate": 0.1,
        "big": -(2**64) + 1,
    }


def test_nan_in_the_history_is_null_and_the_files_are_strict_json(tmp_path: Path) -> None:
    history = {"loss": [1.0, float("nan"), float("inf")], "best": -float("inf")}
    save_checkpoint(tmp_path / "model", replace(example(), history=history))
    assert load_checkpoint(tmp_path / "model").history == {"loss": [1.0, None, None], "best": None}
    assert b"NaN" not in (tmp_path / "model" / "history.json").read_bytes()


def test_global_random_state_is_unchanged(tmp_path: Path) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    save_checkpoint(tmp_path / "model", example())
    load_checkpoint(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_manifest_says_what_is_there(saved: Path) -> None:
    manifest = read_manifest(str(saved))
    assert (manifest.format_version, manifest.class_name) == (FORMAT_VERSION, "MultiVAE")
    assert manifest.tensors["weight"].shape == (2, 3)
    assert manifest.tensors["weight"].n_bytes == 24
    assert manifest.tensors["half"].dtype == "BF16"
    assert manifest.files["config.json"].n_bytes == (saved / "config.json").stat().st_size
    with pytest.raises(CheckpointError, match="no saved model"):
        read_manifest(saved.parent)


# What cannot be saved


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"config": {"loss": float("nan")}}, r"config\['loss'\] is nan"),
        ({"schema": {"mean": [float("inf")]}}, r"schema\['mean'\]\[0\] is inf"),
        ({"config": {"n": np.int64(3)}}, r"config\['n'\].*int64.*\.item\(\)"),
        ({"config": {"table": {1: "a"}}}, r"config\['table'\].*keys are strings"),
        ({"config": {"n": 10**5000}}, r"config\['n'\] is an integer of 16610 bits"),
        ({"config": {"n": 2**64}}, r"config\['n'\] is 18446744073709551616"),
        ({"config": [1]}, "config must be a mapping"),
        ({"class_name": "../MultiVAE"}, "cannot be the name"),
        ({"tensors": {"w": torch.tensor([1.0, float("nan")])}}, "not finite.*'w'"),
        ({"tensors": {"w": torch.zeros(2, dtype=torch.complex64)}}, "'w' cannot be saved.*complex64"),
        ({"tensors": {"w": torch.zeros(2, 2).to_sparse()}}, "'w' cannot be saved.*sparse"),
        ({"tensors": {"w": torch.zeros(2, device="meta")}}, "'w' cannot be saved.*meta"),
        ({"tensors": {"__metadata__": torch.zeros(2)}}, "under the name '__metadata__'"),
        ({"tensors": {"a\ud800": torch.zeros(2)}}, "under the name"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_writing(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(CheckpointError, match=match):
        save_checkpoint(tmp_path / "parent" / "model", replace(example(), **change))
    assert os.listdir(tmp_path) == []


def test_deep_or_circular_config_is_refused(tmp_path: Path) -> None:
    circular: dict[str, Any] = {}
    circular["self"] = circular
    with pytest.raises(CheckpointError, match="nested more than"):
        save_checkpoint(tmp_path / "model", replace(example(), config=circular))


# Bad input 54: save over something


def test_row_54_save_over_existing_needs_overwrite(saved: Path) -> None:
    newer = replace(example(), config={"n_latent": 5})
    with pytest.raises(CheckpointError, match="overwrite=True"):
        save_checkpoint(saved, newer)
    assert_same(load_checkpoint(saved), example())
    save_checkpoint(saved, newer, overwrite=True)
    assert_same(load_checkpoint(saved), newer)
    assert os.listdir(saved.parent) == ["model"]


@pytest.mark.parametrize("kind", ["empty", "notes", "file", "foreign manifest"])
def test_what_is_not_a_checkpoint_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "model"
    if kind == "file":
        place.write_text("thesis")
    else:
        place.mkdir()
    if kind == "notes":
        (place / "thesis.txt").write_text("thesis")
    if kind == "foreign manifest":
        (place / "manifest.json").write_text('{"format": "other", "files": {}}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="will not be replaced"):
        save_checkpoint(place, example(), overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_other_files_in_a_checkpoint_are_not_lost(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"notes\.txt.*Move that out"):
        save_checkpoint(saved, example(), overwrite=True)
    assert (saved / "notes.txt").read_text() == "mine"
    assert_same(load_checkpoint(saved), example())


def test_saving_through_a_link_keeps_the_link(saved: Path) -> None:
    link = saved.parent / "latest"
    link.symlink_to(saved)
    newer = replace(example(), config={})
    save_checkpoint(link, newer, overwrite=True)
    assert link.is_symlink()
    assert_same(load_checkpoint(link), newer)
    assert_same(load_checkpoint(saved), newer)


# Bad input 55: another class, other tensors


def test_wrong_class(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a MultiVAE, not a Other.*MultiVAE\.load\("):
        load_checkpoint(saved, expected_class="Other")


def test_tensors_that_fit_pass() -> None:
    check_tensors(example().tensors, {name: torch.empty_like(t) for name, t in example().tensors.items()})


def test_tensors_that_do_not_fit_are_all_named() -> None:
    expected = {"decoder.weight": torch.zeros(2), "bias": torch.zeros(3), "scale": torch.zeros(1)}
    found = {
        "decoder.weights": torch.zeros(2),
        "bias": torch.zeros(4),
        "scale": torch.zeros(1, dtype=torch.float64),
    }
    with pytest.raises(CheckpointError) as caught:
        check_tensors(found, expected)
    text = str(caught.value)
    assert "in 4 places" in text
    assert "'decoder.weight': missing; did you mean 'decoder.weights'?" in text
    assert "'decoder.weights': unexpected; did you mean 'decoder.weight'?" in text
    assert "'bias': shape (4,) and dtype torch.float32, expected shape (3,)" in text
    assert "'scale': shape (1,) and dtype torch.float64, expected shape (1,) and dtype torch.float32" in text


def test_thousands_of_wrong_tensors_are_counted_and_quick() -> None:
    one = torch.zeros(1)
    found = {f"encoder.layers.{i}.weight": one for i in range(1500)}
    expected = {f"encoder.blocks.{i}.weight": one for i in range(1500)}
    with pytest.raises(CheckpointError, match="in 3000 places") as caught:
        check_tensors(found, expected)
    assert "and 2960 more" in str(caught.value)


# Bad input 56: other formats


def test_row_56_archived_first_format_is_read_and_its_parts_still_written_byte_for_byte(
    tmp_path: Path,
) -> None:
    loaded = load_checkpoint(FIXTURE, expected_class="MultiVAE")
    assert loaded.config["fusion"] == "gated"
    assert loaded.schema["modalities"][0]["features"][2] == "γ-globin"
    assert loaded.history == {"train_loss": [3.5, 2.25, None], "epochs": 3}
    assert torch.equal(loaded.tensors["encoders.rna.weight"], torch.tensor([[0.5, -0.25, 1], [0, 2, -1.5]]))
    assert loaded.tensors["steps"].item() == 42
    # What later formats added is said to be off.
    added = ("disagreement_gate", "heads", "batch_correction")
    config = {name: value for name, value in loaded.config.items() if name not in added}
    tensors = {name: tensor for name, tensor in loaded.tensors.items() if name != "covariates.learned"}
    assert [loaded.config[name] for name in added[:2]] == [False, []]
    assert loaded.config["batch_correction"]["kind"] == "conditional"
    save_checkpoint(tmp_path / "model", replace(loaded, config=config, tensors=tensors))
    written, archived = content_of(tmp_path / "model"), content_of(FIXTURE)
    own = json.loads(written.pop("manifest.json")), json.loads(archived.pop("manifest.json"))
    assert written == archived
    for varying in ("package_version", "manifest_sha256", "format_version"):
        assert own[0].pop(varying)
        assert own[1].pop(varying)
    assert own[0] == own[1]


def test_older_format_is_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(old: Checkpoint) -> Checkpoint:
        return replace(old, class_name="Renamed", config={**old.config, "steps": ["to 2"]})

    def extended(old: Checkpoint) -> Checkpoint:
        return replace(old, config={**old.config, "steps": [*old.config["steps"], "to 3"]})

    monkeypatch.setattr(checkpoint_module, "FORMAT_VERSION", 3)
    monkeypatch.setattr(checkpoint_module, "MIGRATIONS", {1: renamed, 2: extended})
    assert load_checkpoint(FIXTURE, expected_class="Renamed").config["steps"] == ["to 2", "to 3"]


def test_every_readable_older_format_has_a_migration() -> None:
    assert set(checkpoint_module.MIGRATIONS) == set(range(OLDEST_VERSION, FORMAT_VERSION))


@pytest.mark.parametrize(
    ("version", "match"),
    [
        (
            FORMAT_VERSION + 1,
            rf"'9\.9\.9' in format {FORMAT_VERSION + 1}.*pip install --upgrade multiomics-vae",
        ),
        (0, "format_version 0"),
        (True, "not the"),
    ],
)
def test_row_56_unknown_format_is_refused(saved: Path, version: int, match: str) -> None:
    reseal(saved, lambda manifest: manifest.update(format_version=version, package_version="9.9.9"))
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(saved)


# Bad input 57: damaged files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "longer", "bit", "pointer"])
def test_row_57_damage_is_named(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = data.index(b"MultiVAE") if name == "manifest.json" else len(data) // 2
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        damaged = {
            "empty": b"",
            "truncated": data[:-5],
            "longer": data + b"xx",
            "bit": flipped,
            "pointer": pointer,
        }
        path.write_bytes(damaged[damage])
    match = "git lfs pull" if damage == "pointer" else name
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(saved)
