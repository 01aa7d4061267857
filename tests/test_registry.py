"""The registry, and the sentence that helps out of a typo."""

from __future__ import annotations

import importlib

import pytest

import multiomics_vae.errors as errors
from multiomics_vae.errors import InputError, MultiomicsError, did_you_mean
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.priors import PRIORS
from multiomics_vae.registry import Registry

BASE = """
from abc import ABC, abstractmethod
class Part(ABC):
    @abstractmethod
    def work(self): ...
"""
PART = """
from {room}.base import Part
from {room}.helpers import Foreign
class {cls}(Part):
    name = "{name}"
    def work(self): ...
"""
HELPERS = "class Foreign: ..."


def make_room(tmp_path, monkeypatch, room, parts):
    """Write a package with an abstract class and the given (class, name) pairs, and import it."""
    folder = tmp_path / room
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text(BASE)
    (folder / "helpers.py").write_text(HELPERS)
    for cls, name in parts:
        (folder / f"{cls.lower()}.py").write_text(PART.format(room=room, cls=cls, name=name))
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module(room)
    base = importlib.import_module(f"{room}.base").Part
    return lambda: Registry("part", base, room, list(package.__path__))


def test_finds_every_concrete_class_of_a_room_and_nothing_else(tmp_path, monkeypatch):
    registry = make_room(tmp_path, monkeypatch, "room_of_two", [("Wheel", "wheel"), ("Axle", "axle")])()
    assert list(registry) == ["axle", "wheel"]
    assert len(registry) == 2
    assert "wheel" in registry
    assert "Foreign" not in registry
    assert "Part" not in registry
    assert registry["wheel"].__name__ == "Wheel"


def test_two_classes_of_one_name_are_refused(tmp_path, monkeypatch):
    build = make_room(tmp_path, monkeypatch, "room_of_twins", [("First", "same"), ("Second", "same")])
    with pytest.raises(TypeError, match=r"two part classes are called 'same'.*First"):
        build()


def test_unknown_name_says_what_was_meant():
    with pytest.raises(InputError, match=r"no fusion rule called 'prodct'. Did you mean 'product'\?"):
        FUSION_RULES["prodct"]
    with pytest.raises(InputError, match=r"no prior called 'vampp'. Did you mean 'vamp'\?"):
        PRIORS["vampp"]


def test_the_rooms_hold_what_the_documentation_names():
    rules = {"attention", "concatenation", "gated", "mixture", "mixture_of_products", "product"}
    assert rules <= set(FUSION_RULES)
    assert {"standard_normal", "gaussian_mixture", "vamp"} <= set(PRIORS)


def test_did_you_mean_a_close_name():
    assert did_you_mean("rma", ["rna", "atac"]) == "Did you mean 'rna'? Allowed: 'atac', 'rna'."


@pytest.mark.parametrize(
    ("name", "allowed", "meant"),
    [
        ("NB", ["nb", "zinb", "poisson"], "nb"),
        ("Cell_Type", ["cell_type", "batch"], "cell_type"),
        ("cd3e", ["CD3E", "CD19"], "CD3E"),
        ("STRASSE", ["straße", "gasse"], "straße"),
        ("Poison", ["POISSON", "NB"], "POISSON"),
        ("CD3e", ["CD3E", "cd3e"], "CD3E"),
        ("cD3e", ["CD3E", "cd3e"], "cd3e"),
        ("CD3", ["CD3", "cd3"], "CD3"),
    ],
)
def test_did_you_mean_whatever_the_case(name, allowed, meant):
    for order in (allowed, allowed[::-1]):
        assert did_you_mean(name, order).startswith(f"Did you mean {meant!r}? Allowed: ")


def test_did_you_mean_without_a_close_name():
    assert did_you_mean("xyz", ["rna", "atac", "rna"]) == "Allowed: 'atac', 'rna'."


def test_did_you_mean_with_nothing_to_choose_from():
    assert did_you_mean("rna", []) == "There is nothing to choose from."


def test_did_you_mean_names_that_are_not_strings():
    assert did_you_mean(3, [1, 2, 30]) == "Did you mean '30'? Allowed: '1', '2', '30'."


def test_did_you_mean_shortens_a_long_list():
    message = did_you_mean("gene999", [f"gene{i:03d}" for i in range(200)])
    assert message.endswith(", … (200 in all).")
    assert message.count("gene") == 21


def test_every_error_is_caught_by_the_base_and_by_the_builtin_it_resembles():
    resembles = {"InputError": ValueError, "NotFittedError": RuntimeError, "CheckpointError": RuntimeError}
    for name, builtin in resembles.items():
        with pytest.raises(MultiomicsError) as caught:
            raise getattr(errors, name)("message")
        assert isinstance(caught.value, builtin)
