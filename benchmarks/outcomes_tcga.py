"""Survival of 92 patients from five modalities of which most lack some: C-index of held-out patients."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData

from multiomics_vae import Head, ModelSettings, MultiVAE, TrainingSettings, with_clinical
from multiomics_vae.analysis.outcomes.baselines import linear_predictions
from multiomics_vae.analysis.outcomes.clinical import ClinicalDesign
from multiomics_vae.analysis.outcomes.folds import Fold, donor_folds
from multiomics_vae.analysis.outcomes.measures import measures_of
from multiomics_vae.analysis.outcomes.out_of_fold import OutOfFold, difference, scored
from multiomics_vae.cross_validation.donors import Donors, read_donors
from multiomics_vae.cross_validation.fold import Recipe, clinical_fold, predict_fold

MODALITIES = ("rna", "cnv", "prot", "mut", "mirna")
CLINICAL = ["stage", "age"]
N_FOLDS, N_REPEATS, N_DRAWS = 5, 5, 400
LINEAR_DIMENSIONS, LINEAR_RIDGE = 10, 10.0
(C_INDEX,) = measures_of("survival")


@dataclass(frozen=True)
class Variant:
    """A way of predicting.

    Parameters
    ----------
    modalities
        Which are read.
    clinical
        Stage and age as a modality of their own.
    """

    modalities: tuple[str, ...]
    clinical: bool = False


VARIANTS = {
    "five modalities": Variant(MODALITIES),
    "five modalities, stage and age": Variant(MODALITIES, clinical=True),
    **{f"{name} alone": Variant((name,)) for name in MODALITIES},
}
MODEL = ModelSettings(n_latent=10, n_hidden=32, n_layers=1, dropout=0.2)
# The objective is named, because all figures were made with it.
TRAINING = TrainingSettings(
    max_epochs=80,
    batch_size=92,
    accelerator="cpu",
    modality_weights="balanced",
    early_stopping=False,
    subset_objective="within",
    subset_weight=0.3,
)
# Detached: with 26 deaths to learn from a head that bends z learns the training patients by heart.
HEAD = Head(level="cell", kind="cox", weight=30.0, detach=True)


def patients(folder: Path, variant: Variant) -> Donors:
    """The patients of a variant; who has none of its modalities is left out."""
    whole = mudata.read_h5mu(folder / "tcga_acc_mini.h5mu")
    parts = {}
    for name in variant.modalities:
        part = whole[name]
        values = np.asarray(part.X, dtype=np.float32)
        if name == "mirna":  # bulk counts of up to 10^6: a count model would see little but the largest
            values = np.log1p(1e6 * values / values.sum(1, keepdims=True))
        names = pd.DataFrame(index=part.obs_names)
        parts[name] = AnnData(values, obs=names, var=pd.DataFrame(index=part.var_names))
    mdata = mudata.MuData(parts)
    obs = whole.obs.loc[mdata.obs_names, ["time_days", "event", "stage", "age"]].copy()
    obs["patient"] = mdata.obs_names
    obs["event"] = obs["event"].astype(float).where(obs["time_days"] > 0)  # one death on day 0
    stages = {"stage i": 1.0, "stage ii": 2.0, "stage iii": 3.0, "stage iv": 4.0}
    obs["stage_number"] = obs["stage"].astype(str).map(stages)
    mdata.obs = obs
    likelihoods = {name: "bernoulli" if name == "mut" else "gaussian" for name in variant.modalities}
    if variant.clinical:
        mdata = with_clinical(mdata, ["stage_number", "age"])
        likelihoods["clinical"] = "gaussian"
    MultiVAE.setup_mudata(
        mdata,
        likelihoods=likelihoods,
        donor_key="patient",
        outcomes={"survival": ("time_days", "event")},
    )
    options = MultiVAE.setups.get(mdata)
    assert options is not None
    return read_donors(mdata, options, "survival", CLINICAL)


def folds_of(everyone: Donors, some: Donors, seed: int) -> list[Fold]:
    """The folds of all patients, cut down to those of a variant, so that variants can be compared."""
    place = pd.Index(some.names).get_indexer(pd.Index(everyone.names))
    cut = []
    for fold in donor_folds("survival", everyone.truth, everyone.known, N_FOLDS, N_REPEATS, seed):
        training, held_out = (place[side][place[side] >= 0] for side in (fold.training, fold.held_out))
        cut.append(Fold(fold.repeat, fold.number, np.sort(training), np.sort(held_out)))
    return cut


def run(
    data: Path,
    results: Path,
    seeds: int,
    wanted: list[str] | None,
    stop_at: float,
) -> None:
    """Train what is not there yet, one file a fold."""
    everyone = patients(data, VARIANTS["five modalities"])
    recipe = Recipe(HEAD, MODEL, TRAINING, 0.0, 0.9, 0)
    chosen = {name: VARIANTS[name] for name in (wanted or VARIANTS)}
    donors = {name: patients(data, variant) for name, variant in chosen.items()}
    for number in range(N_FOLDS * N_REPEATS):
        for name in chosen:
            path = results / f"{name.replace(', ', '_').replace(' ', '_')}-{number}.csv"
            if path.exists():
                continue
            if time.monotonic() > stop_at:
                return
            own = donors[name]
            fold = folds_of(everyone, own, 0)[number]
            found = predict_fold(own, recipe, fold)
            pd.DataFrame(
                {"patient": own.names[fold.held_out], "risk": found.predicted[:, 0], "repeat": fold.repeat,
                 "fold": fold.number}
            ).to_csv(path, index=False)  # fmt: skip


def tables_of(data: Path) -> dict[str, pd.DataFrame]:
    """Patients by features of every modality, miRNA as log counts per million."""
    whole = mudata.read_h5mu(data / "tcga_acc_mini.h5mu")
    found = {name: part.to_df() for name, part in whole.mod.items()}
    found["mirna"] = np.log1p(found["mirna"].div(found["mirna"].sum(axis=1), axis=0) * 1e6)
    return found


def linear(donors: Donors, fold: Fold, tables: list[pd.DataFrame], with_form: bool) -> np.ndarray:
    """Cox on the principal components of some modalities, missing ones at the mean."""
    training = fold.training[donors.known[fold.training]]
    sides: list[list[np.ndarray]] = [[], []]
    for table in tables:
        x = table.reindex(donors.names).to_numpy(np.float64)
        mean, sd = np.nanmean(x[training], 0), np.nanstd(x[training], 0)
        x = np.nan_to_num((x - mean) / np.where(sd > 0, sd, 1.0))
        directions = np.linalg.svd(x[training], full_matrices=False)[2][:LINEAR_DIMENSIONS]
        scores = x @ directions.T
        scores /= scores[training].std(0)
        for side, rows in zip(sides, (training, fold.held_out), strict=True):
            side.append(scores[rows])
    if with_form:
        design = ClinicalDesign.fit(donors.clinical.iloc[training])
        for side, rows in zip(sides, (training, fold.held_out), strict=True):
            side.append(design.encode(donors.clinical.iloc[rows]))
    fitted, asked = (np.hstack(side) for side in sides)
    return linear_predictions("survival", donors.truth[training], fitted, asked, 0, ridge=LINEAR_RIDGE)


def out_of_fold(everyone: Donors, risk: pd.DataFrame) -> OutOfFold | None:
    """Risks by repeat and patient, of those repeats that are complete; None if none is."""
    complete = [r for r, part in risk.groupby("repeat") if part["fold"].nunique() == N_FOLDS]
    if not complete:
        return None
    risk = risk[risk["repeat"].isin(complete)]
    grid = risk.pivot(index="repeat", columns="patient", values="risk")
    folds = risk.pivot(index="repeat", columns="patient", values="fold")
    place = pd.Index(everyone.names).get_indexer(grid.columns)
    return OutOfFold(
        "survival", everyone.truth[place], grid.to_numpy()[..., None], folds.to_numpy().astype(np.int64)
    )


def same_patients(first: OutOfFold, everyone: Donors, names: list[str], found: list[str]) -> OutOfFold:
    """A result cut down to some patients."""
    place = pd.Index(found).get_indexer(pd.Index(names))
    return OutOfFold("survival", first.truth[place], first.predicted[:, place], first.fold[:, place])


def table(data: Path, results: Path) -> str:
    """C-indices with intervals, and what five modalities add to each other way on the same patients."""
    everyone = patients(data, VARIANTS["five modalities"])
    folds = folds_of(everyone, everyone, 0)
    risks: dict[str, pd.DataFrame] = {}
    for name in VARIANTS:
        stem = name.replace(", ", "_").replace(" ", "_")
        files = sorted(results.glob(f"{stem}-*.csv"))
        if files:
            risks[name] = pd.concat([pd.read_csv(path) for path in files])
    plain = {"Cox on stage and age": lambda fold: clinical_fold(everyone, fold)}
    tables = tables_of(data)
    five = [tables[name] for name in MODALITIES]
    for name in MODALITIES:
        plain[f"Cox on PCA of {name}"] = lambda fold, name=name: linear(everyone, fold, [tables[name]], False)
    plain["Cox on PCA of five"] = lambda fold: linear(everyone, fold, five, False)
    plain["Cox on PCA of five, stage and age"] = lambda fold: linear(everyone, fold, five, True)
    for name, predict in plain.items():
        parts = [
            pd.DataFrame({"patient": everyone.names[f.held_out], "risk": predict(f)[:, 0], "repeat": f.repeat,
                          "fold": f.number})
            for f in folds
        ]  # fmt: skip
        risks[name] = pd.concat(parts)
    results_of = {name: out_of_fold(everyone, risk) for name, risk in risks.items()}
    lines = [
        "| predicted from | patients | repeats of 5 folds | C-index [95 %] | five modalities minus this, "
        "same patients [95 %] | with stage and age minus this [95 %] |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in results_of.items():
        if found is None:
            continue
        score = scored(C_INDEX, found, np.random.default_rng(0), 0.95, N_DRAWS)
        gaps = []
        for ours in ("five modalities", "five modalities, stage and age"):
            base = results_of.get(ours)
            if base is None or name == ours:
                gaps.append("")
                continue
            own = sorted(set(risks[name]["patient"]) & set(risks[ours]["patient"]))
            both = [
                same_patients(each, everyone, own, sorted(set(risks[which]["patient"])))
                for each, which in ((base, ours), (found, name))
            ]
            n = min(len(each.predicted) for each in both)
            cut = [OutOfFold("survival", b.truth, b.predicted[:n], b.fold[:n]) for b in both]
            gaps.append(str(difference(C_INDEX, *cut, np.random.default_rng(0), 0.95, N_DRAWS)))
        kind = f"MultiVAE, {name}" if name in VARIANTS else name
        lines.append(f"| {kind} | {found.n_donors} | {len(found.predicted)} | {score} | {' | '.join(gaps)} |")
    return "\n".join(lines)
