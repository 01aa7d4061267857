"""Files from strangers: nothing outside them is read, and nothing is unfolded beyond a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from multiomics_vae import datasets
from multiomics_vae.data.registration import register
from multiomics_vae.errors import InputError
from strategies import make_mdata


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_mdata().write_h5mu(tmp_path / "cells.h5mu")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["values"] = np.arange(12.0)
    (tmp_path / "secret.bin").write_bytes(bytes(96))
    return tmp_path / "cells.h5mu"


@pytest.mark.parametrize("backed", [False, True])
def test_an_honest_file_is_read(path: Path, backed: bool) -> None:
    found = datasets.read(path, backed=backed)
    assert found.isbacked == backed
    expected = register(make_mdata())
    assert register(found).schema == expected.schema


def external_link(file: h5py.File) -> None:
    file["obs/leak"] = h5py.ExternalLink("secret.h5", "/values")


def soft_link(file: h5py.File) -> None:
    file["obs/leak"] = h5py.SoftLink("/obs/_index")


def external_storage(file: h5py.File) -> None:
    file["obs"].create_dataset("leak", (12,), "f8", external=[("secret.bin", 0, 96)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((12,), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "values", (12,))
    file["obs"].create_virtual_dataset("leak", layout)


def circle(file: h5py.File) -> None:
    file["obs/circle"] = file["obs"]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (external_link, r"'/obs/leak' is a link to another file, 'secret\.h5'.*trusted=True"),
        (soft_link, "'/obs/leak' is a soft link"),
        (external_storage, r"'/obs/leak' stores its values in another file, 'secret\.bin'"),
        (virtual, "'/obs/leak' is a virtual data set"),
        (circle, "in a circle"),
    ],
)
@pytest.mark.parametrize("backed", [False, True])
def test_row_61_a_file_that_points_outside_itself(
    path: Path, attack: Callable[[h5py.File], None], message: str, backed: bool
) -> None:
    with h5py.File(path, "r+") as file:
        attack(file)
    with pytest.raises(InputError, match=message):
        datasets.read(path, backed=backed)


def test_row_61_a_trusted_file_may(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["uns/ours"] = h5py.SoftLink("/mod/rna/X/data")
    found = datasets.read(path, trusted=True)
    np.testing.assert_array_equal(found.uns["ours"], found["rna"].X.data)


def bomb(path: Path, place: str) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset(place, (1 << 34,), "u1", chunks=(1 << 30,), compression="gzip", fillvalue=0)


@pytest.mark.parametrize("backed", [False, True])
def test_row_62_a_decompression_bomb(path: Path, backed: bool) -> None:
    bomb(path, "uns/bomb")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"unfolds to more than 8589934592 bytes.*'/uns/bomb'.*most_bytes="):
        datasets.read(path, backed=backed)


def test_row_62_a_bomb_among_values_left_on_disk(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["mod/rna/X/data"]
    bomb(path, "mod/rna/X/data")
    with pytest.raises(InputError, match=r"'/mod/rna/X/data' is stored in chunks that unfold to 1073741824"):
        datasets.read(path, backed=True)


def test_row_62_the_budget_is_the_users(path: Path) -> None:
    with pytest.raises(InputError, match="unfolds to more than 1000 bytes"):
        datasets.read(path, most_bytes=1_000)


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        datasets.read(tmp_path / "absent.h5mu")
    (tmp_path / "text.h5mu").write_text("not HDF5")
    with pytest.raises(InputError, match="is not an HDF5 file"):
        datasets.read(tmp_path / "text.h5mu")
