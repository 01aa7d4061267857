"""Minibatches of donors: every cell once, no bag torn, the same after a stop, cut among processes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from handmade_models import mixed_data
from multiomics_vae.data.bags import Bags
from multiomics_vae.data.dataset import Labels
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.share import Process

DONOR = np.repeat([0, 1, 2, 3, -1], [50, 20, 7, 1, 12])
CELLS = np.arange(len(DONOR))


def _loader(bags, batch_size=16, seed=0, process=None, cells=CELLS):
    from dataclasses import replace

    data = mixed_data(len(DONOR))
    data = replace(data, labels=Labels(DONOR, ("a", "b", "c", "d"), np.zeros((len(DONOR), 1), np.float32)))
    generator = None if seed is None else np.random.default_rng(seed)
    return MinibatchLoader(data, cells, batch_size, generator, process=process or Process(), bags=bags)


def _cells(loader):
    return [minibatch.cells.numpy() for minibatch in loader]


@pytest.mark.parametrize("cells_per_donor", [1, 8, 30, None])
@pytest.mark.parametrize("n_bins", [1, 3, 5])
@pytest.mark.parametrize("shuffled", [True, False])
def test_every_cell_is_in_one_bin_and_bins_are_even(cells_per_donor, n_bins, shuffled):
    bags = Bags(DONOR, cells_per_donor)
    bins = bags.pack(CELLS, n_bins, np.random.default_rng(0) if shuffled else None)
    assert len(bins) == n_bins
    assert sorted(np.concatenate(bins)) == CELLS.tolist()
    sizes = [len(each) for each in bins]
    assert max(sizes) - min(sizes) <= (cells_per_donor or 50)


def test_whole_donors_stay_whole():
    bins = Bags(DONOR, None).pack(CELLS, 3, np.random.default_rng(0))
    for donor in range(4):
        assert sum(bool((DONOR[each] == donor).any()) for each in bins) == 1


def test_bags_are_of_even_size_and_no_larger_than_asked():
    bags = Bags(DONOR, 8)
    assert bags.n_bags(CELLS) == 7 + 3 + 1 + 1 + 2
    bins = bags.pack(CELLS, bags.n_bags(CELLS), np.random.default_rng(0))
    sizes = sorted(len(each) for each in bins if (DONOR[each] == 0).any())
    assert sizes == [7, 7, 7, 7, 7, 7, 8]
    assert all(len(np.unique(DONOR[each])) == 1 for each in bins)


def test_every_pass_draws_other_bags():
    loader = _loader(Bags(DONOR, 8))
    first, second = _cells(loader), _cells(loader)
    assert len(first) == len(second) == loader.n_steps == 6
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == CELLS.tolist()
    assert any(set(a) != set(b) for a, b in zip(first, second, strict=True))
    assert max(map(len, first)) <= 16 + 8


def test_there_are_no_more_steps_than_donors():
    loader = _loader(Bags(DONOR, None), batch_size=4)
    assert loader.n_steps == 5
    assert all(len(each) for each in _cells(loader))


def test_a_pass_goes_on_where_it_stopped():
    loader = _loader(Bags(DONOR, 8))
    iterator = iter(loader)
    start = loader.pass_start
    seen = [next(iterator).cells.numpy() for _ in range(2)]
    rest = [minibatch.cells.numpy() for minibatch in iterator]
    resumed = _loader(Bags(DONOR, 8), seed=99)
    resumed.go_on(start, 2)
    assert len(resumed) == len(rest)
    for found, expected in zip(_cells(resumed), rest, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(seen) + len(rest) == loader.n_steps


@pytest.mark.parametrize("n_processes", [2, 3])
@pytest.mark.parametrize("cells_per_donor", [8, None])
def test_processes_share_steps_without_tearing_bags(n_processes, cells_per_donor):
    loaders = [
        _loader(Bags(DONOR, cells_per_donor), process=Process(rank, n_processes))
        for rank in range(n_processes)
    ]
    seen = []
    for step in zip(*loaders, strict=True):
        shares = [minibatch.share for minibatch in step]
        own = [m.cells.numpy()[: m.share.n_own] for m in step]
        assert len({share.n_total for share in shares}) == 1
        assert sum(share.n_own for share in shares) == shares[0].n_total > 0
        ends = list(itertools.accumulate(share.n_own for share in shares))
        firsts = [end - share.n_own if share.n_own else 0 for end, share in zip(ends, shares, strict=True)]
        assert [share.first for share in shares] == firsts
        assert all(minibatch.n_cells == max(1, minibatch.share.n_own) for minibatch in step)
        if cells_per_donor is None:
            for a, b in itertools.combinations(own, 2):
                assert not set(DONOR[a][DONOR[a] >= 0]) & set(DONOR[b][DONOR[b] >= 0])
        seen += own
    assert sorted(np.concatenate(seen)) == CELLS.tolist()


def test_values_on_disk_come_in_the_same_bags(tmp_path):
    import anndata
    import mudata

    from multiomics_vae.data.options import SetupOptions
    from multiomics_vae.data.registration import register

    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in CELLS]
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(2.0, (len(CELLS), 5)).astype(np.float32)))
    adata.obs_names, adata.var_names = names, [f"g{j}" for j in range(5)]
    mdata = mudata.MuData({"rna": adata})
    mdata.obs["donor"] = [f"d{code}" if code >= 0 else None for code in DONOR]
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    options = SetupOptions(donor_key="donor")
    stored = register(mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True), options)
    in_memory = register(mdata, options)
    assert stored.on_disk
    loaders = [
        MinibatchLoader(data, CELLS, 16, np.random.default_rng(3), bags=Bags(data.donor, 8))
        for data in (stored, in_memory)
    ]
    for a, b in zip(*loaders, strict=True):
        assert a.cells.tolist() == b.cells.tolist()
        assert (a.modalities[0].dense == b.modalities[0].dense).all()
        assert a.labels.donor.tolist() == b.labels.donor.tolist()
