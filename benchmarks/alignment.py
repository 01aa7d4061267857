"""What aligning single modalities brings, and what the disagreement gate does where modalities do not match.

    python benchmarks/alignment.py [--cells 3000] [--epochs 15] [--seeds 0] [--threads 1]
    python benchmarks/alignment.py --table        # run nothing, print the tables again

Penalties: the default and each penalty at two weights. Gate: on and off, where 30 % of the cells have another
cell's values in one of their modalities, in training too or in held-out cells only. Every run leaves a JSON
record in ``--out``; what is there is not run again unless ``--redo`` is given. The tables of all records are
printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from alignment_data import SOURCES, AlignmentData, read_cells, with_swapped
from alignment_scores import detection, foscttm, pearson_per_column, transferred_accuracy
from multiomics_vae import MultiVAE
from records import Stopwatch
from scores import auroc_per_column, embedding_scores

HERE = Path(__file__).resolve().parent
SWAPPED = 0.3
SWAPS: tuple[Literal["all", "held-out"], ...] = ("all", "held-out")


@dataclass(frozen=True)
class Variant:
    """One way to build and train; ``swapped`` says which cells may have swapped modalities."""

    name: str
    fusion: str = "product"
    gate: bool = False
    swapped: Literal["none", "all", "held-out"] = "none"
    penalties: Mapping[str, float] = field(default_factory=dict)


PENALISED = (
    Variant("default"),
    *(
        Variant(f"{name} {weight:g}", penalties={name: weight})
        for name, weights in (
            ("info_nce", (1.0, 10.0)),
            ("triplet", (1.0, 10.0)),
            ("mmd", (10.0, 100.0)),
            ("overconfidence", (1.0, 10.0)),
        )
        for weight in weights
    ),
    # In a product of experts more evidence is nearly always more certainty: the hinge has work elsewhere.
    Variant("gated", "gated"),
    *(
        Variant(f"gated, overconfidence {weight:g}", "gated", penalties={"overconfidence": weight})
        for weight in (1.0, 10.0)
    ),
)
GATED = tuple(
    Variant(f"{fusion}, {which} swapped{', gate' if gate else ''}", fusion, gate, which)
    for which in SWAPS
    for fusion in ("product", "gated")
    for gate in (False, True)
)


@dataclass(frozen=True)
class Outcome:
    """The scores of one run.

    Parameters
    ----------
    knn_accuracy, knn_held_out
        15-NN accuracy of the joint embedding, five-fold, over all and over held-out cells.
    foscttm
        Between the embeddings given each modality alone, held-out cells that have both.
    imputed
        Second modality from RNA in held-out cells: AUROC of a peak, or Pearson correlation of a protein.
    elbo
        Held-out, nats a cell.
    intact, swapped_rna, swapped_second
        Accuracy of held-out cells by neighbours among intact training cells, by what was done to them.
    detected
        AUROC of `get_disagreement` for held-out cells that were swapped.
    beyond
        Share of the swapped held-out cells in which the gate acts, or would.
    """

    data: str
    variant: str
    seed: int
    cpu_seconds: float
    knn_accuracy: float
    knn_held_out: float
    foscttm: float
    imputed: float
    elbo: float
    intact: float
    swapped_rna: float
    swapped_second: float
    detected: float
    beyond: float


def run(plain: AlignmentData, spoiled: AlignmentData, variant: Variant, seed: int, epochs: int) -> Outcome:
    """Fit on the training cells, score."""
    data = plain if variant.swapped == "none" else spoiled
    train = (spoiled if variant.swapped == "all" else plain).mdata[data.split.train].copy()
    test = data.mdata[data.split.test].copy()
    clock = Stopwatch()
    with contextlib.redirect_stdout(io.StringIO()):
        MultiVAE.setup_mudata(train, likelihoods=data.likelihoods, batch_key=data.batch_key)
        model = MultiVAE(train, fusion=variant.fusion, disagreement_gate=variant.gate, seed=seed)
        model.train(epochs, penalties=variant.penalties, progress=False)
    seconds = clock.cpu_seconds
    Z = model.get_latent_representation(data.mdata)  # (N, K)
    held_out = np.zeros(len(Z), dtype=bool)
    held_out[data.split.test] = True
    whole = held_out & data.paired & (data.swapped == "")
    single = [
        model.get_latent_representation(data.mdata, indices=whole, modalities=[name])
        for name in ("rna", data.second)
    ]
    disagreement = model.get_disagreement(data.mdata)[f"rna|{data.second}"].to_numpy()
    asked = held_out & data.paired
    accuracies = [
        transferred_accuracy(Z, data.labels, ~held_out & (data.swapped == ""), asked & (data.swapped == name))
        for name in ("", "rna", data.second)
    ]
    return Outcome(
        data.name,
        variant.name,
        seed,
        seconds,
        embedding_scores(Z, data.labels, with_silhouette=False).knn_accuracy,
        embedding_scores(Z[held_out], data.labels[held_out], with_silhouette=False).knn_accuracy,
        foscttm(single[0], single[1]),
        _imputed(model, data, whole),
        float(model.get_elbo(test).mean()),
        *accuracies,
        *_found(disagreement[asked], data.swapped[asked] != ""),
    )


def _found(disagreement: np.ndarray, is_swapped: np.ndarray) -> tuple[float, float]:
    if not is_swapped.any():
        return float("nan"), float("nan")
    return detection(disagreement, is_swapped), float((disagreement[is_swapped] > 1).mean())


def _imputed(model: MultiVAE, data: AlignmentData, cells: np.ndarray) -> float:
    predicted = model.get_normalized(data.second, data.mdata, indices=cells, given=["rna"])
    truth = data.mdata[data.second][data.mdata.obs_names[cells]].X
    if data.second == "atac":
        return auroc_per_column(truth, predicted.to_numpy()).mean
    return pearson_per_column(truth, predicted.to_numpy())


def table(outcomes: list[Outcome], variants: tuple[Variant, ...], columns: Mapping[str, str]) -> str:
    """Markdown: a row a data set and variant, averages over the seeds."""
    lines = [
        f"| data | variant | seeds | {' | '.join(columns.values())} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name in SOURCES:
        for variant in variants:
            rows = [o for o in outcomes if (o.data, o.variant) == (name, variant.name)]
            if rows:
                means = [np.mean([getattr(o, column) for o in rows]) for column in columns]
                cells = [f"{mean:.1f}" if abs(mean) >= 10 else f"{mean:.3f}" for mean in means]
                lines.append(f"| {name} | {variant.name} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


ALIGNED = {
    "knn_accuracy": "15-NN, all",
    "knn_held_out": "15-NN, held out",
    "foscttm": "FOSCTTM",
    "imputed": "second from RNA",
    "elbo": "held-out ELBO",
    "cpu_seconds": "CPU s",
}
GATE = {
    "intact": "intact",
    "swapped_rna": "RNA swapped",
    "swapped_second": "second swapped",
    "knn_accuracy": "15-NN, all",
    "imputed": "second from RNA",
    "detected": "swapped found, AUROC",
    "beyond": "swapped with d² > q",
    "elbo": "held-out ELBO",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder")
    parser.add_argument("--sets", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    names = [variant.name for variant in (*PENALISED, *GATED)]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--cells", type=int, default=3000, help="cells of each data set (3000)")
    parser.add_argument("--epochs", type=int, default=15, help="passes (15)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results_alignment", help="folder of the records")
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="run nothing, print the tables only")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in [] if arguments.table else arguments.sets:
        plain = read_cells(arguments.data, name, arguments.cells)
        spoiled = with_swapped(plain, SWAPPED)
        for variant in (*PENALISED, *GATED):
            for seed in arguments.seeds:
                path = arguments.out / f"{name}_{variant.name.replace(' ', '_')}_seed{seed}.json"
                if variant.name not in arguments.variants or (path.exists() and not arguments.redo):
                    continue
                with threadpool_limits(limits=arguments.threads):
                    outcome = run(plain, spoiled, variant, seed, arguments.epochs)
                path.write_text(json.dumps(asdict(outcome), indent=1) + "\n")
                print(f"{name}, {variant.name}, seed {seed}: {outcome.cpu_seconds:.0f} s", flush=True)
    outcomes = [Outcome(**json.loads(p.read_text())) for p in sorted(arguments.out.glob("*_seed*.json"))]
    print(table(outcomes, PENALISED, ALIGNED), "\n", sep="\n")
    print(table(outcomes, GATED, GATE))


if __name__ == "__main__":
    main()
