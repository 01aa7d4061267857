"""Gated against product: importance weights, intervals, and a modality that is noise in some cells.

    python benchmarks/fusion_choice.py [--cells 3000] [--seeds 0 1] [--threads 1]
    python benchmarks/fusion_choice.py --table        # run nothing, write the table again

Models are fitted on 80 % of a sample of the cells and asked about the others. In 30 % of the cells with two
modalities one of the two is noise: every feature of it is shuffled among these cells on its own, so that its
values are as usual and say nothing of the cell. A model meets such cells when it is asked only, or in
training too. Every run leaves a JSON record in ``--out``; what is there is not run again unless ``--redo``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from threadpoolctl import threadpool_limits

from alignment_data import SOURCES, AlignmentData, read_cells
from alignment_scores import transferred_accuracy
from markers import command_line, write_between_markers
from multiomics_vae import MultiVAE
from multiomics_vae.analysis.evaluation.importance import importance_tables
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.data.registration import read
from records import Stopwatch

HERE = Path(__file__).resolve().parent
FUSIONS = ("product", "gated")
NOISE = 0.3
N_DRAWS, N_CELLS = 200, 150  # of the importance weights
N_FEATURES, N_COVERED = 300, 500


@dataclass(frozen=True)
class Outcome:
    """One data set, fusion rule and seed; rna and second name the modality that is meant.

    Parameters
    ----------
    joint, marginal_rna, marginal_second, conditional
        Mean variances of the log importance weights of held-out cells; the last of RNA given the second.
    elbo
        Held-out, nats a cell.
    covered_rna, covered_second
        Share in the stated 90 % intervals of `impute` from the other modality.
    intact, noise_rna, noise_second
        15-NN accuracy among intact training cells of held-out cells by what is noise; met when asked only.
    trained_intact, trained_noise_rna, trained_noise_second
        The same of a model that was trained on such cells too.
    kept_rna, kept_second
        Mean weight of a modality's own expert where it is noise, over that where nothing is; asked only.
    trained_kept_rna, trained_kept_second
        The same, trained on such cells too.
    """

    data: str
    fusion: str
    seed: int
    cpu_seconds: float
    joint: float
    marginal_rna: float
    marginal_second: float
    conditional: float
    elbo: float
    covered_rna: float
    covered_second: float
    intact: float
    noise_rna: float
    noise_second: float
    trained_intact: float
    trained_noise_rna: float
    trained_noise_second: float
    kept_rna: float
    kept_second: float
    trained_kept_rna: float
    trained_kept_second: float


def with_noise(data: AlignmentData, share: float, seed: int = 0) -> AlignmentData:
    """Make one modality of a share of the cells with both noise, half of them the one and half the other."""
    rng = np.random.default_rng(seed)
    paired = np.flatnonzero(data.paired)
    hit = rng.permutation(paired)[: round(share * len(paired))]
    mdata, spoiled = data.mdata.copy(), data.swapped.copy()
    for name, cells in zip(("rna", data.second), np.array_split(hit, 2), strict=True):
        rows = mdata[name].obs_names.get_indexer(mdata.obs_names[cells])
        table = sp.csr_matrix(mdata[name].X).tolil()
        table[rows] = rng.permuted(table[rows].toarray(), axis=0)
        mdata.mod[name].X = table.tocsr()
        spoiled[cells] = name
    return replace(data, mdata=mdata, swapped=spoiled)


def run(plain: AlignmentData, spoiled: AlignmentData, fusion: str, seed: int) -> Outcome:
    """Fit twice, ask, score."""
    clock = Stopwatch()
    model = _fitted(plain, fusion, seed)
    variances = _variances(model, plain, seed)
    test = plain.mdata[plain.split.test].copy()
    covered = [
        model.interval_coverage(
            target,
            test,
            given=[given],
            features=list(_most_seen(plain, target)),
            levels=(0.9,),
            n_samples=200,
            indices=np.flatnonzero(plain.paired[plain.split.test])[:N_COVERED],
            seed=seed,
        )["model"].iloc[0]
        for target, given in (("rna", plain.second), (plain.second, "rna"))
    ]
    trained = _fitted(spoiled, fusion, seed)
    return Outcome(
        plain.name,
        fusion,
        seed,
        clock.cpu_seconds,
        *variances,
        float(model.get_elbo(test).mean()),
        *(float(share) for share in covered),
        *_accuracies(model, spoiled),
        *_accuracies(trained, spoiled),
        *_kept(model, spoiled),
        *_kept(trained, spoiled),
    )


def _fitted(data: AlignmentData, fusion: str, seed: int) -> MultiVAE:
    train = data.mdata[data.split.train].copy()
    with contextlib.redirect_stdout(io.StringIO()):
        MultiVAE.setup_mudata(train, likelihoods=data.likelihoods, batch_key=data.batch_key)
        model = MultiVAE(train, fusion=fusion, seed=seed)
        model.train(progress=False)
    return model


def _variances(model: MultiVAE, data: AlignmentData, seed: int) -> tuple[float, float, float, float]:
    held_out = np.zeros(data.mdata.n_obs, dtype=bool)
    held_out[data.split.test] = True
    cells = read(data.mdata[held_out & data.paired].copy(), model.schema)
    everyone = np.arange(cells.n_cells)
    question = Question(model.module, cells, everyone, 64, 1, seed).drawn(N_CELLS)
    found = importance_tables(question, N_DRAWS).variances.set_index(["kind", "of", "given"])["variance"]
    return (
        float(found["joint", "all", "all"]),
        float(found["marginal", "rna", "rna"]),
        float(found["marginal", data.second, data.second]),
        float(found["conditional", "rna", data.second]),
    )


def _most_seen(data: AlignmentData, name: str) -> pd.Index:
    seen = np.asarray((sp.csr_matrix(data.mdata[name].X) > 0).sum(0)).ravel()
    return data.mdata[name].var_names[np.sort(np.argsort(-seen)[:N_FEATURES])]


def _asked(data: AlignmentData) -> np.ndarray:
    held_out = np.zeros(data.mdata.n_obs, dtype=bool)
    held_out[data.split.test] = True
    return held_out & data.paired


def _accuracies(model: MultiVAE, data: AlignmentData) -> list[float]:
    Z = model.get_latent_representation(data.mdata)  # (N, K)
    intact = np.isin(np.arange(len(Z)), data.split.train) & (data.swapped == "")
    return [
        transferred_accuracy(Z, data.labels, intact, _asked(data) & (data.swapped == name))
        for name in ("", "rna", data.second)
    ]


def _kept(model: MultiVAE, data: AlignmentData) -> list[float]:
    weights, asked = model.get_expert_weights(data.mdata), _asked(data)
    return [
        float(weights.loc[asked & (data.swapped == name), name].mean())
        / float(weights.loc[asked & (data.swapped == ""), name].mean())
        for name in ("rna", data.second)
    ]


GROUPS = {
    "Variances of the log importance weights (0: exact), held-out ELBO, coverage of 90 % intervals.": {
        "joint": "joint",
        "marginal_rna": "RNA",
        "marginal_second": "second",
        "conditional": "RNA given second",
        "elbo": "ELBO",
        "covered_rna": "coverage, RNA from second",
        "covered_second": "coverage, second from RNA",
        "cpu_seconds": "CPU s",
    },
    "15-NN accuracy of held-out cells, by what is noise; met when asked only, or in training too.": {
        "intact": "nothing",
        "noise_rna": "RNA",
        "noise_second": "second",
        "trained_intact": "nothing, trained",
        "trained_noise_rna": "RNA, trained",
        "trained_noise_second": "second, trained",
    },
    "Weight of a modality's own expert where it is noise, over its weight where nothing is.": {
        "kept_rna": "RNA",
        "kept_second": "second",
        "trained_kept_rna": "RNA, trained",
        "trained_kept_second": "second, trained",
    },
}


def table(outcomes: list[Outcome]) -> str:
    """Markdown: means over seeds, and their range in brackets."""
    lines: list[str] = []
    for title, columns in GROUPS.items():
        lines += ["", title, "", f"| data | fusion | seeds | {' | '.join(columns.values())} |"]
        lines.append("|---" * (3 + len(columns)) + "|")
        for name in SOURCES:
            for fusion in FUSIONS:
                rows = [o for o in outcomes if (o.data, o.fusion) == (name, fusion)]
                if rows:
                    cells = [_cell([getattr(o, column) for o in rows]) for column in columns]
                    lines.append(f"| {name} | {fusion} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines).strip()


def _cell(values: list[float]) -> str:
    digits = 1 if max(map(abs, values)) >= 10 else 3
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder")
    parser.add_argument("--sets", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--cells", type=int, default=3000, help="cells of each data set (3000)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results_fusion", help="folder of the records")
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in [] if arguments.table else arguments.sets:
        plain = read_cells(arguments.data, name, arguments.cells)
        spoiled = with_noise(plain, NOISE)
        for seed in arguments.seeds:
            for fusion in FUSIONS:
                path = arguments.out / f"{name}.{fusion}.{seed}.json"
                if path.exists() and not arguments.redo:
                    continue
                with threadpool_limits(limits=arguments.threads):
                    outcome = run(plain, spoiled, fusion, seed)
                path.write_text(json.dumps(asdict(outcome), indent=1) + "\n")
                print(outcome, flush=True)
    outcomes = [Outcome(**json.loads(path.read_text())) for path in sorted(arguments.out.glob("*.*.*.json"))]
    write_between_markers("fusion", f"`{command_line()}`\n\n{table(outcomes)}")


if __name__ == "__main__":
    main()
