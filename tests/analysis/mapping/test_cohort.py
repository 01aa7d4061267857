"""What new cells share: simulated cells whose latent state hides their type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from multiomics_vae.analysis.mapping.cohort import Cohort
from multiomics_vae.analysis.mapping.cohort_learning import Side, learn_cohort
from multiomics_vae.analysis.mapping.confidence import p_values
from multiomics_vae.analysis.mapping.contrast import Measured, contrast, weighted_quantile
from multiomics_vae.errors import CheckpointError

N_FEATURES, N_LATENT = 200, 4
FEATURES, KEYS = np.arange(N_FEATURES), np.arange(10_000)
KNOWN = (0.4, 0.3, 0.3, 0.0)
RATE = 0.05


def cells(
    shares: tuple[float, ...], n: int, seed: int, kind: str, shift: bool = False
) -> tuple[Side, np.ndarray]:
    """Cells of types; the last lies in z exactly where the first does, and differs in every tenth feature."""
    fixed, drawn = np.random.default_rng(0), np.random.default_rng(seed)
    centres = fixed.normal(0.0, 2.0, (3, N_LATENT))
    profiles = fixed.normal(0.0, 0.5, (3, N_FEATURES)) + fixed.normal(0.0, 1.0, N_FEATURES)
    hidden = profiles[0] + np.where(np.arange(N_FEATURES) % 10 == 0, 1.5, 0.0)
    profiles = np.vstack([profiles, hidden])
    if shift:
        profiles = profiles + np.where(np.arange(N_FEATURES) % 7 == 0, 0.7, 0.0)
    types = drawn.choice(4, n, p=shares)
    z = centres[types % 3] + drawn.normal(0.0, 0.7, (n, N_LATENT))
    if kind == "real":
        values = drawn.normal(profiles[types], 0.75).astype(np.float32)
        return Side(z, Measured(sp.csr_matrix(values), np.ones_like(values), False)), types
    rates = np.exp(profiles[types])
    depth = 150 * drawn.lognormal(0.0, 0.3, (n, 1))
    if kind == "overdispersed":
        rates = rates * drawn.gamma(2.0, 0.5, rates.shape)
        depth = 10 * depth
    counts = drawn.poisson(depth * rates / rates.sum(1, keepdims=True)).astype(np.float32)
    sums = counts.sum(1, keepdims=True).clip(min=1.0)
    return Side(z, Measured(sp.csr_matrix(counts), sums, True)), types


def learned(new: Side, kind: str, n_out: int = 300) -> Cohort:
    training, held_out = cells(KNOWN, 900, 1, kind)[0], cells(KNOWN, n_out, 2, kind)[0]
    found = learn_cohort(new, training, held_out, FEATURES, KEYS[: len(new.latent)])
    assert found is not None
    return found


def scored(cohort: Cohort, side: Side) -> np.ndarray:
    return cohort.scores(side.latent, side.measured, KEYS[: len(side.latent)])


@pytest.mark.parametrize("kind", ["counts", "overdispersed", "real"])
def test_a_type_that_z_hides_is_found_and_known_ones_are_not(kind: str) -> None:
    new, types = cells((0.2, 0.35, 0.35, 0.1), 600, 3, kind)
    cohort = learned(new, kind)
    scores, hidden = scored(cohort, new), types == 3
    assert roc_auc_score(hidden, scores) > 0.9
    unknown = p_values(cohort.held_out, scores) < RATE
    assert unknown[hidden].mean() > 0.5
    # 300 held-out cells set the level, and cells of a neighbourhood go together.
    assert unknown[types % 3 > 0].mean() < 3 * RATE


@pytest.mark.parametrize("kind", ["counts", "real"])
@pytest.mark.parametrize(
    ("shares", "shift"), [(KNOWN, False), ((0.05, 0.15, 0.8, 0.0), False), (KNOWN, True)]
)
def test_neither_another_composition_nor_a_shift_of_all_cells_is_new(
    kind: str, shares: tuple[float, ...], shift: bool
) -> None:
    new = cells(shares, 600, 4, kind, shift)[0]
    cohort = learned(new, kind)
    unknown = p_values(cohort.held_out, scored(cohort, new)) < RATE
    assert unknown.mean() < 3 * RATE


@pytest.mark.parametrize("n_out", [80, 900])
def test_held_out_cells_stand_for_the_new_ones_however_many_they_are(n_out: int) -> None:
    new = cells(KNOWN, 400, 5, "counts")[0]
    cohort = learned(new, "counts", n_out)
    assert cohort.held_out.shape == (n_out,)
    scores = scored(cohort, new)
    assert abs(np.median(scores) - np.median(cohort.held_out)) < 0.5 * scores.std()
    assert scores.std() == pytest.approx(cohort.held_out.std(), rel=0.35)


def test_a_cell_does_not_speak_for_itself() -> None:
    """A new cell is scored without itself: as a cell of the same distribution that was not there."""
    new, others = cells(KNOWN, 600, 6, "counts")[0], cells(KNOWN, 600, 7, "counts")[0]
    cohort = learned(new, "counts")
    own = cohort.ratios_of(new.latent, new.measured, cohort.folds)
    theirs = cohort.ratios_of(others.latent, others.measured, np.arange(600) % 5)
    assert abs(own.mean() - theirs.mean()) < 4 * np.hypot(own.std(), theirs.std()) / np.sqrt(600)
    changed = replace(cohort, ratios=np.where(KEYS[:600] == 11, 1e6, cohort.ratios))
    before, after = scored(cohort, new), scored(changed, new)
    assert after[11] == before[11]
    assert (after > before).any()


def test_weights_are_the_log_likelihood_ratio_of_the_shrunk_profiles() -> None:
    drawn = np.random.default_rng(0)
    rates = drawn.gamma(2.0, 3.0, (2, 5))
    counts = [sp.csr_matrix(drawn.poisson(rate, (400, 5)).astype(np.float32)) for rate in rates]
    sides = [Measured(each, np.asarray(each.sum(axis=1), dtype=np.float32), True) for each in counts]
    new, known = (side.around(np.arange(400)[None]) for side in sides)
    # Two places, of which the heavier is the same among new and known cells: nothing is common to all.
    both = [
        type(new)(
            *(np.vstack([a, b]) for a, b in zip(vars(known).values(), vars(each).values(), strict=True))
        )
        for each in (new, known)
    ]
    slope, constant = contrast(both[0], both[1], np.array([0.9, 0.1]), counted=True)
    np.testing.assert_allclose(slope[0], 0.0, atol=1e-6)
    phi = both[1].spread(True)
    shares = [each.values.sum(axis=0) / each.values.sum() for each in (new, known)]
    np.testing.assert_allclose(slope[1] * phi, np.log(shares[0]) - np.log(shares[1]), rtol=0.1)
    x = sides[0].values[:50].toarray()
    depth = x.sum(axis=1)
    mean = depth[:, None] * known.mean
    other = mean * np.exp(slope[1] * phi)
    wanted = ((x * np.log(other / mean) - (other - mean)) / phi).sum(axis=1)
    np.testing.assert_allclose(x @ slope[1] - depth * constant[1, 0], wanted, rtol=1e-4, atol=1e-4)


def test_what_varies_from_cell_to_cell_anyway_is_divided_by_its_spread() -> None:
    drawn = np.random.default_rng(0)
    gamma = drawn.gamma(0.5, 2.0, 4_000)
    counts = np.stack(
        [drawn.poisson(20.0, 4_000), drawn.poisson(20 * gamma), drawn.poisson(1e4, 4_000)], axis=1
    )
    counted = Measured(
        sp.csr_matrix(counts.astype(np.float32)), counts.sum(1, keepdims=True).astype(np.float32), True
    )
    everyone = np.arange(4_000)[None]
    np.testing.assert_allclose(counted.around(everyone).spread(True)[:2], [1.0, 41.0], rtol=0.1)
    values = drawn.normal([1.0, -3.0], [0.5, 2.0], (4_000, 2)).astype(np.float32)
    observed = (drawn.random((4_000, 2)) < 0.7).astype(np.float32)
    real = Measured(sp.csr_matrix(values * observed), observed, False).around(everyone)
    np.testing.assert_allclose(real.spread(False), [0.25, 4.0], rtol=0.1)
    np.testing.assert_allclose(real.mean[0], [1.0, -3.0], atol=0.1)


def test_the_weighted_median_is_that_of_repeated_rows() -> None:
    values, weights = np.random.default_rng(0).normal(size=(7, 3)), np.array([1, 4, 2, 3, 1, 5, 1])
    repeated = np.repeat(values, weights, axis=0)
    np.testing.assert_allclose(weighted_quantile(values, weights / 17, 0.5), np.median(repeated, axis=0))


def test_too_few_cells_teach_nothing() -> None:
    training, held_out = cells(KNOWN, 200, 1, "counts")[0], cells(KNOWN, 100, 2, "counts")[0]
    few, none = cells(KNOWN, 49, 3, "counts")[0], held_out.of(np.arange(0))
    assert learn_cohort(few, training, held_out, FEATURES, KEYS[:49]) is None
    assert learn_cohort(training, training, none, FEATURES, KEYS[:200]) is None


# On disk


@pytest.fixture(scope="module")
def small() -> Cohort:
    return learned(cells(KNOWN, 100, 3, "counts")[0], "counts")


def test_it_comes_back(small: Cohort) -> None:
    again = Cohort.from_tensors(small.to_tensors(), N_FEATURES, N_LATENT)
    for name, tensor in small.to_tensors().items():
        assert torch.equal(again.to_tensors()[name], tensor), name
    new = cells(KNOWN, 100, 3, "counts")[0]
    np.testing.assert_allclose(scored(again, new), scored(small, new), atol=1e-4)


@pytest.mark.parametrize(
    "fault", ["missing", "older", "position", "fold", "shape", "dtype", "scalar", "exposure", "nan", "latent"]
)
def test_what_cannot_be_is_refused(small: Cohort, fault: str) -> None:
    tensors, n_latent = small.to_tensors(), N_LATENT
    if fault == "missing":
        del tensors["slope"]
    elif fault == "older":
        tensors["directions"] = tensors.pop("slope")
    elif fault == "position":
        tensors["features"] = tensors["features"] + 1
    elif fault == "fold":
        tensors["folds"] = tensors["folds"] - 1
    elif fault == "shape":
        tensors["slope"] = tensors["slope"][:, 1:]
    elif fault == "dtype":
        tensors["slope"] = tensors["slope"].double()
    elif fault == "scalar":
        tensors["anchors"] = torch.tensor(1.0)
    elif fault == "exposure":
        tensors["constant"] = tensors["constant"].expand(-1, -1, 2).contiguous()
    elif fault == "nan":
        tensors["ratios"] = tensors["ratios"] * torch.nan
    else:
        n_latent += 1
    with pytest.raises(CheckpointError, match=r"MultiVAE\.map_query\(mdata|Save the query again"):
        Cohort.from_tensors(tensors, N_FEATURES, n_latent)
