"""Embeddings of SNARE-seq mouse cortex by several methods, on one split and one machine.

Every method and seed leaves a JSON record in ``--out`` as soon as it is done; what is there already is not
run again unless ``--redo`` is given. The table over all records is then written into RESULTS.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from baselines import svd, svd_lsi
from ours import gated, product
from peers import multivi
from records import EmbeddingRun, Record, Task, read_json, read_task, write_json
from scores import EmbeddingScores, embedding_scores
from table import write_table

HERE = Path(__file__).resolve().parent
DATA_SET = "snareseq_mouse_cortex"


@dataclass(frozen=True)
class Method:
    """A method, as it is called on the command line and described in the table."""

    name: str
    description: str
    run: Callable[[Task], EmbeddingRun]


METHODS = (
    Method("svd", "SVD of log-normalised RNA, 30 dimensions", svd),
    Method("svd_lsi", "SVD of RNA beside LSI of ATAC, 30 dimensions each", svd_lsi),
    Method("multivi", "MULTIVI, defaults", multivi),
    Method("product", "MultiVAE, product", product),
    Method("gated", "MultiVAE, gated", gated),
)


def score(method: Method, task: Task, run: EmbeddingRun) -> Record:
    """Score a run on all cells and on the held-out cells alone."""
    held_out = task.split.test

    def rows(Z: np.ndarray | None, cells: np.ndarray | slice) -> EmbeddingScores | None:
        return None if Z is None else embedding_scores(Z[cells], task.labels[cells])

    return Record(
        method=method.name,
        seed=task.seed,
        data=DATA_SET,
        threads=task.threads,
        cap_seconds=task.cap_seconds,
        wall_seconds=run.wall_seconds,
        cpu_seconds=run.cpu_seconds,
        epochs=run.epochs,
        stopped_by=run.stopped_by,
        all_cells=embedding_scores(run.embedding, task.labels),
        held_out=embedding_scores(run.embedding[held_out], task.labels[held_out]),
        rna_all_cells=rows(run.embedding_rna, slice(None)),
        rna_held_out=rows(run.embedding_rna, held_out),
        likelihoods=run.likelihoods,
        curve=run.curve,
        versions=tuple(f"{name} {version(name)}" for name in ("scvi-tools", "torch", "scikit-learn")),
        cap_clock=task.cap_clock,
    )


def run_and_write(method: Method, task: Task, path: Path) -> None:
    """Run a method and write the embedding, the weights if there are any, and last of all the record."""
    print(f"{method.name} seed {task.seed}: started", flush=True)
    with threadpool_limits(limits=task.threads):
        run = method.run(task)
        record = score(method, task, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"embedding": run.embedding}
    if run.embedding_rna is not None:
        arrays["embedding_rna"] = run.embedding_rna
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    if run.weights is not None:
        weights = {name: tensor.contiguous().clone() for name, tensor in run.weights.items()}
        save_file(weights, path.with_suffix(".safetensors"))
    write_json(path, record)
    print(f"{method.name} seed {task.seed}: {record.wall_seconds:.0f} s, {record.all_cells}", flush=True)


def parse() -> argparse.Namespace:
    names = [method.name for method in METHODS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=names, default=names, help="all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cap-minutes", type=float, default=60, help="training time allowed a run (60)")
    parser.add_argument(
        "--cap-clock",
        choices=["wall", "cpu"],
        default="wall",
        help="whether the cap counts wall-clock or CPU time (wall)",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument(
        "--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of the h5mu files"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    chosen = [method for method in METHODS if method.name in arguments.methods and not arguments.table]
    for seed in arguments.seeds:
        for method in chosen:
            path = arguments.out / f"{method.name}_seed{seed}.json"
            if path.exists() and not arguments.redo:
                print(f"{method.name} seed {seed}: kept {path}", flush=True)
                continue
            task = read_task(
                arguments.data / f"{DATA_SET}.h5mu",
                seed=seed,
                cap_seconds=60 * arguments.cap_minutes,
                cap_clock=arguments.cap_clock,
                threads=arguments.threads,
            )
            run_and_write(method, task, path)
    records = [read_json(path) for path in sorted(arguments.out.glob("*_seed*.json"))]
    descriptions = [(method.name, method.description) for method in METHODS]
    write_table(HERE / "RESULTS.md", records, descriptions)
    print(f"table of {len(records)} runs: {HERE / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
