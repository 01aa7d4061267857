"""Reading ahead in runs: every cell once a pass, as random as asked, and no thread is left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import mudata
import numpy as np
import pytest

from multiomics_vae import MultiVAE, architecture
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader, make_minibatch
from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.reading import PassStart, ReadingPlan, plan_pass, read_ahead
from multiomics_vae.data.registration import register
from multiomics_vae.data.share import Process
from multiomics_vae.data.stored import StoredRows
from multiomics_vae.errors import InputError
from small_models import make_cells

N_CELLS = 200
# About 10 values of 8 bytes a cell and modality.
PLAN = ReadingPlan(group_bytes=6_000, run_bytes=600)


@pytest.fixture
def backed(tmp_path: Path) -> mudata.MuData:
    lacking = {"rna": range(0, 60, 3), "atac": range(100, 120)}
    make_cells(n_cells=N_CELLS, lacking=lacking).write_h5mu(tmp_path / "cells.h5mu")
    return mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)


@pytest.fixture
def data(backed: mudata.MuData) -> MultimodalData:
    return register(backed)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "multiomics_vae reader"]


def one_pass(loader: MinibatchLoader) -> np.ndarray:
    return np.concatenate([minibatch.cells.numpy() for minibatch in loader])


@pytest.mark.parametrize("batch_size", [1, 7, 32, 500])
@pytest.mark.parametrize("n_cells", [1, 150, N_CELLS])
def test_every_cell_once_in_every_pass(data: MultimodalData, batch_size: int, n_cells: int) -> None:
    cells = np.random.default_rng(3).permutation(N_CELLS)[:n_cells]
    loader = MinibatchLoader(data, cells, batch_size, np.random.default_rng(0), PLAN)
    first, second = one_pass(loader), one_pass(loader)
    np.testing.assert_array_equal(np.sort(first), np.sort(cells))
    np.testing.assert_array_equal(np.sort(second), np.sort(cells))
    assert n_cells == 1 or list(first) != list(second)
    sizes = [minibatch.n_cells for minibatch in loader]
    assert len(sizes) == len(loader)
    assert all(size == batch_size for size in sizes[:-1])
    assert not readers()


def test_a_seed_gives_the_same_passes(data: MultimodalData) -> None:
    def passes(seed: int) -> list[list[int]]:
        loader = MinibatchLoader(data, np.arange(N_CELLS), 16, np.random.default_rng(seed), PLAN)
        return [one_pass(loader).tolist() for _ in range(2)]

    assert passes(5) == passes(5)
    assert passes(5) != passes(6)


def test_minibatches_hold_the_values_of_their_cells(data: MultimodalData) -> None:
    memory = data.loaded(np.arange(N_CELLS))
    for minibatch in MinibatchLoader(data, np.arange(N_CELLS), 16, np.random.default_rng(0), PLAN):
        expected = make_minibatch(memory, minibatch.cells.numpy())
        np.testing.assert_array_equal(minibatch.present, expected.present)
        np.testing.assert_array_equal(minibatch.covariates.batch, expected.covariates.batch)
        for ours, theirs in zip(minibatch.modalities, expected.modalities, strict=True):
            np.testing.assert_array_equal(ours.rows, theirs.rows)
            np.testing.assert_array_equal(ours.dense, theirs.dense)
            np.testing.assert_array_equal(ours.depth, theirs.depth)


def test_without_a_generator_the_order_is_kept(data: MultimodalData) -> None:
    cells = np.array([150, 3, 3, 77, 0])
    np.testing.assert_array_equal(one_pass(MinibatchLoader(data, cells, 2, plan=PLAN)), cells)


def test_groups_are_bounded_and_mixed(data: MultimodalData) -> None:
    generator = np.random.default_rng(0)
    groups = plan_pass(data, np.arange(N_CELLS), 8, generator, PLAN)
    bytes_a_cell = sum(part.bytes_a_row for part in data.modalities)
    assert len(groups) > 3
    assert all(len(group.cells) * bytes_a_cell <= PLAN.group_bytes for group in groups)
    assert all(len(group.cells) % 8 == 0 for group in groups[:-1])
    for group in groups[:-1]:
        # Runs from many places: with runs in order a group would span only its own share of the cells.
        assert np.ptp(group.cells) > N_CELLS / 2
        np.testing.assert_array_equal(np.sort(group.order), np.arange(len(group.cells)))
        assert list(group.order) != sorted(group.order)


def test_an_error_while_reading_reaches_the_loop(
    data: MultimodalData, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, calls = StoredRows.take, []

    def failing(self: StoredRows, rows: np.ndarray) -> object:
        calls.append(1)
        if len(calls) > 4:
            raise OSError("disk gone")
        return take(self, rows)

    monkeypatch.setattr(StoredRows, "take", failing)
    seen: list[int] = []
    loader = MinibatchLoader(data, np.arange(N_CELLS), 8, np.random.default_rng(0), PLAN)
    with pytest.raises(OSError, match="disk gone"):
        seen.extend(minibatch.n_cells for minibatch in loader)
    assert seen
    assert not readers()


def test_leaving_a_pass_ends_its_thread(data: MultimodalData) -> None:
    loader = MinibatchLoader(data, np.arange(N_CELLS), 8, np.random.default_rng(0), PLAN)
    held = iter(loader)
    next(held)
    assert len(readers()) == 1
    loader.close()
    assert not readers()
    with pytest.raises(KeyboardInterrupt):
        stop_at_once(loader)
    assert not readers()


def stop_at_once(loader: MinibatchLoader) -> None:
    for _ in loader:
        raise KeyboardInterrupt


def test_no_more_results_are_held_than_allowed() -> None:
    made: list[int] = []

    def make(task: int) -> int:
        made.append(task)
        return task

    for used, (task, result) in enumerate(read_ahead(make, list(range(10)), n_ahead=2)):
        assert task == result == used
        time.sleep(0.02)
        assert len(made) <= used + 3
    assert made == list(range(10))


def test_training_on_disk_and_ctrl_c(backed: mudata.MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiomics_vae.training.plan import TrainingPlan

    model = MultiVAE(backed, n_latent=3, n_hidden=16)
    model.train(2, batch_size=16, progress=False)
    before = model.get_latent_representation()
    assert np.isfinite(before).all()
    assert not readers()
    step = TrainingPlan.training_step

    def interrupted(self: TrainingPlan, *arguments: object) -> object:
        if self.global_step >= 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(TrainingPlan, "training_step", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model.train(2, batch_size=16, progress=False)
    assert not readers()
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_model_from_disk_starts_as_one_from_memory(backed: mudata.MuData, tmp_path: Path) -> None:
    memory = mudata.read_h5mu(tmp_path / "cells.h5mu")
    models = [MultiVAE(given, n_latent=3, n_hidden=16) for given in (memory, backed)]
    first, second = (model.module.state_dict() for model in models)
    for name, tensor in first.items():
        np.testing.assert_allclose(second[name], tensor, rtol=1e-5, atol=1e-6, err_msg=name)
    models[0].train(2, batch_size=16, progress=False)
    answers = [models[0].get_latent_representation(given) for given in (memory, backed)]
    np.testing.assert_array_equal(*answers)


def test_the_file_may_go_during_training_with_an_error_that_says_so(
    backed: mudata.MuData, tmp_path: Path
) -> None:
    model = MultiVAE(backed, n_latent=3, n_hidden=16)
    for part in model._data.modalities:
        part.values.matrix.table._place._opened = None
    (tmp_path / "cells.h5mu").unlink()
    with pytest.raises(InputError, match="cannot be found any more"):
        model.train(1, progress=False)
    assert not readers()


def test_a_projection_of_peaks_on_disk_is_fitted_on_a_sample(
    backed: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def components() -> np.ndarray:
        buffers = dict(MultiVAE(backed, n_latent=3, n_hidden=16, seed=4).module.named_buffers())
        (name,) = (name for name in buffers if name.endswith("projection.components"))
        return buffers[name].numpy()

    whole = components()
    rows: list[int] = []
    loaded = MultimodalData.loaded
    monkeypatch.setattr(architecture, "PROJECTION_CELLS", 90)
    monkeypatch.setattr(
        MultimodalData, "loaded", lambda self, cells: (rows.extend(cells), loaded(self, cells))[1]
    )
    sampled = components()
    assert len(rows) == len(set(rows)) == 90
    assert not np.array_equal(sampled, whole)
    np.testing.assert_array_equal(components(), sampled)


def test_values_on_disk_are_not_brought_into_the_private_mudata(backed: mudata.MuData) -> None:
    model = MultiVAE(backed, n_latent=3, n_hidden=16)
    x = model.adata["rna"].X
    assert x.shape == backed["rna"].shape
    assert np.isnan(x).all()
    assert x.strides == (0, 0)


@pytest.mark.parametrize("n_cells", [1, 100, 150])
@pytest.mark.parametrize("shuffled", [True, False])
def test_processes_share_every_pass(data: MultimodalData, n_cells: int, shuffled: bool) -> None:
    cells = np.random.default_rng(3).permutation(N_CELLS)[:n_cells]
    for steps in (crew_passes(data, cells, shuffled), crew_passes(memory(data), cells, shuffled)):
        for one_pass_of_all in steps:
            assert len({len(minibatches) for minibatches in one_pass_of_all}) == 1
            own = [m.cells[: m.share.n_own].tolist() for each in one_pass_of_all for m in each]
            assert sorted(cell for step in own for cell in step) == sorted(cells)
            for step in zip(*one_pass_of_all, strict=True):
                assert len({minibatch.share.n_total for minibatch in step}) == 1
                assert sum(minibatch.share.n_own for minibatch in step) == step[0].share.n_total
        if shuffled and n_cells > 1:
            first, second = ([m.cells.tolist() for m in each[0]] for each in steps)
            assert first != second


def memory(data: MultimodalData) -> MultimodalData:
    return data.loaded(np.arange(N_CELLS))


def crew_passes(data: MultimodalData, cells: np.ndarray, shuffled: bool) -> list[list[list[Minibatch]]]:
    """Two passes, of three processes each, whose generators are as if they lived in different places."""
    loaders = [
        MinibatchLoader(
            data, cells, 7, np.random.default_rng(0) if shuffled else None, PLAN, Process(rank, 3)
        )
        for rank in range(3)
    ]
    return [[list(loader) for loader in loaders] for _ in range(2)]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("n_done", [0, 1, 5, 18])
def test_the_rest_of_a_pass(data: MultimodalData, in_memory: bool, n_done: int) -> None:
    data = memory(data) if in_memory else data
    whole = MinibatchLoader(data, np.arange(150), 8, np.random.default_rng(0), PLAN)
    list(whole)
    expected = [minibatch.cells.tolist() for minibatch in whole]
    next_pass = [minibatch.cells.tolist() for minibatch in whole]

    rest = MinibatchLoader(data, np.arange(150), 8, np.random.default_rng(0), PLAN)
    list(rest)
    start = PassStart.of(rest.generator)
    again = MinibatchLoader(data, np.arange(150), 8, np.random.default_rng(77), PLAN)
    again.go_on(start, n_done)
    assert len(again) == 19 - n_done
    assert [minibatch.cells.tolist() for minibatch in again] == expected[n_done:]
    assert again.pass_start == start
    again.end_pass()
    assert len(again) == again.n_steps == 19
    assert [minibatch.cells.tolist() for minibatch in again] == next_pass
