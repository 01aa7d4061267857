"""Two libraries of SNARE-seq mouse cortex mapped onto a model of the other ten, beside peers.

Labels are transferred from the reference to the query; and with a type left out of the reference, its cells
must be told from those of known types. References are kept in ``--out``, and each run leaves a JSON record
there; what is there is not run again. The table over all records is then written into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

HERE = Path(__file__).resolve().parent
DATA_SET = "snareseq_mouse_cortex"
UNLABELLED = "Misc/unknown"
BEGIN, END = "<!-- mapping: begin -->", "<!-- mapping: end -->"
LEFT_OUT = ("Ex-L2/3-Rasgrf2", "Ex-L6-Tle4", "Ex-L5-Galnt14", "Astrocyte", "In-Sst")
NEIGHBOURS, DIMENSIONS, FALSE_ALARMS = 15, 30, 0.05
LOOSE = 0.5  # weight of the KL divergence with which a reference for labels is trained


@dataclass(frozen=True)
class Task:
    """A reference and a query.

    Parameters
    ----------
    mdata
        All cells.
    is_query
        ``(N,)``; the others, without the type left out, are the reference.
    seed
        Of the libraries in the query, and of every method.
    left_out
        Type that the reference has not; None for none.
    """

    mdata: md.MuData
    is_query: np.ndarray
    seed: int
    left_out: str | None

    @property
    def types(self) -> np.ndarray:
        return self.mdata.obs["cell_type"].astype(str).to_numpy()

    @property
    def is_reference(self) -> np.ndarray:
        return ~self.is_query & (self.types != self.left_out)

    @property
    def name(self) -> str:
        return f"seed{self.seed}_{(self.left_out or 'none').replace('/', '-')}"


@dataclass(frozen=True)
class Record:
    """One method on one task; None where something was not asked."""

    method: str
    seed: int
    left_out: str | None
    balanced: float
    accuracy: float
    auroc: float | None
    false_alarms: float | None
    power: float | None
    cpu_seconds: float


@dataclass(frozen=True)
class Mapped:
    """What a method says of the query.

    Parameters
    ----------
    name
        Of the method, or of a variant of it.
    labels
        ``(n,)``.
    strangeness
        Large is strange, ``(n,)``.
    p_value
        ``(n,)``; None where a method has none.
    """

    name: str
    labels: np.ndarray
    strangeness: np.ndarray
    p_value: np.ndarray | None = None


def read_task(path: Path, seed: int, left_out: str | None) -> Task:
    mdata = md.read_h5mu(path)
    libraries = np.random.default_rng(seed).permutation(sorted(mdata.obs["batch"].unique()))[:2]
    return Task(mdata, mdata.obs["batch"].isin(libraries).to_numpy(), seed, left_out)


def by_neighbours(task: Task, name: str, reference: np.ndarray, query: np.ndarray) -> Mapped:
    """15-NN labels, and the mean distance from 15 reference cells, in any embedding."""
    types = task.types[task.is_reference]
    has_label = types != UNLABELLED
    labels = KNeighborsClassifier(NEIGHBOURS).fit(reference[has_label], types[has_label]).predict(query)
    distance = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reference).kneighbors(query)[0].mean(axis=1)
    return Mapped(name, labels, distance)


def by_votes(task: Task, name: str, reference: np.ndarray, query: np.ndarray) -> Mapped:
    """The labels that `transfer_labels` gives, in a peer's embedding."""
    from multiomics_vae.analysis.mapping.labels import N_NEIGHBORS, neighbour_votes

    types = task.types[task.is_reference]
    has_label = types != UNLABELLED
    votes = neighbour_votes(reference[has_label], types[has_label], query, N_NEIGHBORS)
    labels = votes.columns.to_numpy()[votes.to_numpy().argmax(axis=1)]
    return Mapped(name, labels, 1.0 - votes.to_numpy().max(axis=1))


def svd(task: Task, out: Path) -> list[Mapped]:
    """SVD of log-normalised RNA, fitted on the reference."""
    counts = sp.csr_matrix(task.mdata["rna"].X, dtype=np.float32)
    x = (sp.diags(1e4 / np.maximum(np.asarray(counts.sum(1)).ravel(), 1)) @ counts).log1p().tocsr()
    fitted = TruncatedSVD(DIMENSIONS, random_state=task.seed).fit(x[task.is_reference])
    known, asked = (fitted.transform(x[rows]) for rows in (task.is_reference, task.is_query))
    found = by_neighbours(task, "svd", known, asked)
    return [found, by_votes(task, "svd, votes of transfer_labels", known, asked)]


def scvi(task: Task, out: Path) -> list[Mapped]:
    """SCVI on RNA and its query mapping, with the settings of its own tutorial on scArches."""
    import scvi as peer

    peer.settings.seed = task.seed
    cells = [task.mdata["rna"][rows].copy() for rows in (task.is_reference, task.is_query)]
    for adata, rows in zip(cells, (task.is_reference, task.is_query), strict=True):
        adata.obs["batch"] = task.mdata.obs["batch"].astype(str).to_numpy()[rows]
    peer.model.SCVI.setup_anndata(cells[0], batch_key="batch")
    settings = {"use_layer_norm": "both", "use_batch_norm": "none", "encode_covariates": True}
    model = peer.model.SCVI(cells[0], n_layers=2, dropout_rate=0.2, **settings)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    model.train(max_epochs=150, early_stopping=True, **quiet)
    query = peer.model.SCVI.load_query_data(cells[1], model)
    query.train(max_epochs=100, plan_kwargs={"weight_decay": 0.0}, **quiet)
    known, asked = model.get_latent_representation(), query.get_latent_representation()
    found = by_neighbours(task, "scvi", known, asked)
    return [found, by_votes(task, "scvi, votes of transfer_labels", known, asked)]


def ours(task: Task, out: Path) -> list[Mapped]:
    """MultiVAE with its defaults: `map_query`, `transfer_labels` and `mapping_confidence`.

    ``shared``: with what the cells of the query share, told from the reference's cells.
    """
    from multiomics_vae import MultiVAE

    cells = task.mdata[task.is_reference].copy()
    model = reference_of(task, cells, out)
    query = task.mdata[task.is_query].copy()
    alone = md.MuData({"rna": query["rna"]})
    alone.obs = query.obs.loc[alone.obs_names]
    found = []
    for name, new in (("multivae", query), ("multivae, RNA only", alone)):
        if name != "multivae" and task.left_out is not None:
            continue
        mapped = MultiVAE.map_query(new, model, seed=task.seed, progress=False)
        table = mapped.transfer_labels("cell_type", cells, unlabelled=[UNLABELLED])
        confidence = mapped.mapping_confidence(false_alarms=FALSE_ALARMS)
        labels = table["nearest_label"].to_numpy().astype(str)
        found.append(told(name, labels, confidence))
        if name == "multivae":
            found.append(told(f"{name}, shared", labels, mapped.mapping_confidence(shared=True)))
        plain = by_neighbours(
            task,
            f"{name}, 15-NN",
            mapped.get_latent_representation(cells),
            mapped.get_latent_representation(),
        )
        found.append(plain)
    # Before any weight of the new libraries is learned, which could have learned what is new in them.
    mapped = MultiVAE.map_query(query, model, train=False, seed=task.seed, progress=False)
    table = mapped.transfer_labels("cell_type", cells, unlabelled=[UNLABELLED], false_alarms=0)
    labels = table["nearest_label"].to_numpy().astype(str)
    found.append(told("multivae, untrained, shared", labels, mapped.mapping_confidence(shared=True)))
    return found


def ours_loose(task: Task, out: Path) -> list[Mapped]:
    """MultiVAE as `ours` has it, but for a reference trained for labels, as the README says."""
    from multiomics_vae import MultiVAE

    cells = task.mdata[task.is_reference].copy()
    MultiVAE.setup_mudata(cells, likelihoods={"rna": "nb", "atac": "bernoulli"}, batch_key="batch")
    model = MultiVAE(cells, seed=task.seed)
    model.train(kl_weight=LOOSE, early_stopping=False, progress=False, accelerator="cpu")
    mapped = MultiVAE.map_query(task.mdata[task.is_query].copy(), model, seed=task.seed, progress=False)
    table = mapped.transfer_labels("cell_type", cells, unlabelled=[UNLABELLED], false_alarms=0)
    labels = table["nearest_label"].to_numpy().astype(str)
    name = f"multivae, kl_weight={LOOSE}"
    return [
        told(name, labels, mapped.mapping_confidence(false_alarms=FALSE_ALARMS)),
        by_neighbours(
            task,
            f"{name}, 15-NN",
            mapped.get_latent_representation(cells),
            mapped.get_latent_representation(),
        ),
    ]


def told(name: str, labels: np.ndarray, confidence: pd.DataFrame) -> Mapped:
    """What `mapping_confidence` says."""
    return Mapped(name, labels, confidence["strangeness"].to_numpy(), confidence["p_value"].to_numpy())


def reference_of(task: Task, cells: md.MuData, out: Path) -> Any:
    """The reference, trained or, if it was before, read."""
    from multiomics_vae import MultiVAE

    folder = out / f"reference_{task.name}"
    MultiVAE.setup_mudata(cells, likelihoods={"rna": "nb", "atac": "bernoulli"}, batch_key="batch")
    if folder.exists():
        model = MultiVAE.load(folder, cells)
        split = np.load(folder.with_suffix(".npz"))
        model.train_indices, model.validation_indices = split["training"], split["validation"]
        return model
    model = MultiVAE(cells, seed=task.seed)
    model.train(progress=False, accelerator="cpu")
    model.save(folder)
    np.savez(folder.with_suffix(".npz"), training=model.train_indices, validation=model.validation_indices)
    return model


def record(task: Task, mapped: Mapped, cpu_seconds: float) -> Record:
    types = task.types[task.is_query]
    is_new = types == task.left_out
    is_known = ~is_new & (types != UNLABELLED)
    asked = is_new | is_known
    unknown = None if mapped.p_value is None else mapped.p_value < FALSE_ALARMS
    return Record(
        method=mapped.name,
        seed=task.seed,
        left_out=task.left_out,
        balanced=float(balanced_accuracy_score(types[is_known], mapped.labels[is_known])),
        accuracy=float((types == mapped.labels)[is_known].mean()),
        auroc=float(roc_auc_score(is_new[asked], mapped.strangeness[asked])) if is_new.any() else None,
        false_alarms=None if unknown is None else float(unknown[is_known].mean()),
        power=None if unknown is None or not is_new.any() else float(unknown[is_new].mean()),
        cpu_seconds=cpu_seconds,
    )


METHODS: dict[str, Callable[[Task, Path], list[Mapped]]] = {
    "svd": svd,
    "scvi": scvi,
    "multivae": ours,
    "loose": ours_loose,
}
LABELS_ONLY = ("scvi", "loose")  # not asked about types left out


def run(method: str, task: Task, out: Path) -> None:
    path = out / f"{method}_{task.name}.json"
    if path.exists():
        return
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = METHODS[method](task, out)
    seconds = time.process_time() - start
    records = [asdict(record(task, mapped, seconds)) for mapped in found]
    path.write_text(json.dumps(records, indent=1))
    for each in records:
        print(each, flush=True)


def spread(values: Iterable[float]) -> str:
    found = list(values)
    if not found:
        return ""
    return f"{np.mean(found):.3f}" + (f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else "")


def tables(records: list[Record]) -> str:
    methods = sorted({r.method for r in records})
    lines = [
        "| label transfer, nothing left out | seeds | balanced accuracy | accuracy | called unknown |",
        "|---|---|---|---|---|",
    ]
    for method in methods:
        own = [r for r in records if r.method == method and r.left_out is None]
        if own:
            alarms = spread(r.false_alarms for r in own if r.false_alarms is not None)
            scores = f"{spread(r.balanced for r in own)} | {spread(r.accuracy for r in own)}"
            lines.append(f"| {method} | {len(own)} | {scores} | {alarms} |")
    lines += [
        "",
        "| left out of the reference | method | seeds | AUROC of novelty | found | known called unknown |",
        "|---|---|---|---|---|---|",
    ]
    for left_out in sorted({r.left_out for r in records if r.left_out}):
        for method in methods:
            own = [r for r in records if r.method == method and r.left_out == left_out]
            if own:
                power = spread(r.power for r in own if r.power is not None)
                alarms = spread(r.false_alarms for r in own if r.false_alarms is not None)
                auroc = spread(r.auroc for r in own if r.auroc is not None)
                lines.append(f"| {left_out} | {method} | {len(own)} | {auroc} | {power} | {alarms} |")
    return "\n".join(lines)


def write(records: list[Record], command: str) -> None:
    path = HERE / "RESULTS.md"
    text = path.read_text()
    block = f"{BEGIN}\n```bash\n{command}\n```\n\n{tables(records)}\n{END}"
    before, rest = text.split(BEGIN)
    path.write_text(before + block + rest.split(END)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--left-out", nargs="*", default=list(LEFT_OUT), help="types, one after the other")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results_mapping")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds if not arguments.table else []:
        for left_out in (None, *arguments.left_out):
            task = read_task(arguments.data / f"{DATA_SET}.h5mu", seed, left_out)
            for method in arguments.methods:
                if method not in LABELS_ONLY or left_out is None:
                    run(method, task, arguments.out)
    paths = sorted(arguments.out.glob("*_seed*.json"))
    records = [Record(**each) for path in paths for each in json.loads(path.read_text())]
    write(records, "python benchmarks/mapping.py " + " ".join(sys.argv[1:]))


if __name__ == "__main__":
    main()
