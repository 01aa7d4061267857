"""One modality of held-out cells imputed from another, by several methods on the same split.

Every method, task and seed leaves a JSON record in ``--out``; what is there is not run again unless
``--redo`` is given. Peers run in a process of their own. The table over all records goes into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from imputation_baselines import kernel_ridge, neighbours, ridge, tuned
from imputation_multivi import one_depth, predicted_depth
from imputation_ours import as_measured, at_one_depth, corrected
from imputation_peers import totalvi
from imputation_tasks import RECIPES, ImputationTask, TaskRecipe, make_task
from markers import write_between_markers
from records import Stopwatch

HERE = Path(__file__).resolve().parent
SNARE_TASKS = ("peaks_from_rna", "genes_from_atac")
Values = NDArray[np.floating]


@dataclass(frozen=True)
class Method:
    """A method: what it is called, what it does, and for which tasks (none named: all)."""

    name: str
    description: str
    run: Callable[[ImputationTask], tuple[Values, str]]
    tasks: tuple[str, ...] = ()
    is_peer: bool = False


@dataclass(frozen=True)
class Record:
    """One method, task and seed."""

    method: str
    task: str
    seed: int
    mean: float
    n_features: int
    cpu_seconds: float
    note: str
    versions: tuple[str, ...]


def _tuned(predictor: Callable, task: ImputationTask, depth_free: bool = False) -> tuple[Values, str]:
    found = tuned(task, predictor, depth_free)
    return found.values, found.choice


def _ours(
    fusion: str, ask: Callable[[ImputationTask, str], Values], task: ImputationTask
) -> tuple[Values, str]:
    return ask(task, fusion), ""


def methods(cap_seconds: float) -> tuple[Method, ...]:
    """All methods, in the order of the table."""
    return (
        Method("ridge", "ridge regression, tuned", partial(_tuned, ridge)),
        Method(
            "ridge_one_depth",
            "ridge regression, tuned, depth taken out",
            partial(_tuned, ridge, depth_free=True),
            (*SNARE_TASKS, "rna_from_protein"),
        ),
        Method("knn", "nearest cells, tuned", partial(_tuned, neighbours)),
        Method("kernel_ridge", "kernel ridge regression, tuned", partial(_tuned, kernel_ridge)),
        Method(
            "totalvi",
            "totalVI, defaults",
            partial(totalvi, cap_seconds=cap_seconds),
            ("protein_from_rna",),
            True,
        ),
        Method(
            "multivi_one_depth",
            "MULTIVI, defaults",
            partial(one_depth, cap_seconds=cap_seconds),
            SNARE_TASKS,
            True,
        ),
        Method(
            "multivi",
            "MULTIVI, defaults, at predicted depth",
            partial(predicted_depth, cap_seconds=cap_seconds),
            SNARE_TASKS,
            True,
        ),
        Method(
            "product_one_depth", "MultiVAE, product, depth taken out", partial(_ours, "product", at_one_depth)
        ),
        Method("product", "MultiVAE, product, impute", partial(_ours, "product", as_measured)),
        Method("product_predict", "MultiVAE, product, predict_values", partial(_ours, "product", corrected)),
        Method("gated_one_depth", "MultiVAE, gated, depth taken out", partial(_ours, "gated", at_one_depth)),
        Method("gated", "MultiVAE, gated, impute", partial(_ours, "gated", as_measured)),
        Method("gated_predict", "MultiVAE, gated, predict_values", partial(_ours, "gated", corrected)),
    )


def run(method: Method, recipe: TaskRecipe, seed: int, arguments: argparse.Namespace) -> None:
    """Run, score, write the record."""
    task = make_task(recipe, arguments.data, seed)
    with threadpool_limits(limits=arguments.threads):
        clock = Stopwatch()
        values, note = method.run(task)
        seconds = clock.cpu_seconds
        score = task.score(task.truth, values)
    names = ("scvi-tools", "torch", "scikit-learn")
    record = Record(
        method.name,
        task.name,
        seed,
        score.mean,
        score.n_features,
        seconds,
        note,
        tuple(f"{name} {version(name)}" for name in names),
    )
    path = place(arguments.out, method, recipe, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
    temporary.replace(path)
    print(f"{task.name} {method.name} seed {seed}: {score.mean:.4f} {note} ({seconds:.0f} CPU s)", flush=True)


def run_peers(wanted: list[tuple[Method, TaskRecipe]], seed: int, arguments: argparse.Namespace) -> None:
    """The same in a fresh process, so that a peer's global settings reach nobody else.

    All questions to one peer go into one process, which trains it once.
    """
    command = [sys.executable, __file__, "--in-process", "--redo", "--seeds", str(seed)]
    command += ["--methods", *dict.fromkeys(method.name for method, _ in wanted)]
    command += ["--tasks", *dict.fromkeys(recipe.name for _, recipe in wanted)]
    command += ["--cap-minutes", str(arguments.cap_minutes), "--threads", str(arguments.threads)]
    subprocess.run([*command, "--data", str(arguments.data), "--out", str(arguments.out)], check=True)


def place(out: Path, method: Method, recipe: TaskRecipe, seed: int) -> Path:
    return out / f"{recipe.name}.{method.name}.{seed}.json"


def table(out: Path, known: tuple[Method, ...]) -> str:
    """Mean over seeds and the worst in brackets, a row a method, a column a task."""
    records = [Record(**json.loads(path.read_text())) for path in sorted(out.glob("*.*.*.json"))]
    lines = [
        "| method | " + " | ".join(f"{r.name}: {r.score_name}" for r in RECIPES) + " |",
        "|---|" + "---|" * len(RECIPES),
    ]
    for method in known:
        cells = []
        for recipe in RECIPES:
            found = [r.mean for r in records if (r.method, r.task) == (method.name, recipe.name)]
            several = f" ({min(found):.3f}; {len(found)} seeds)" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.3f}{several}" if found else "")
        if any(cells):
            lines.append(f"| {method.description} | " + " | ".join(cells) + " |")
    notes = sorted({f"{r.task}, {r.method}: {r.note}" for r in records if r.note and r.seed == 0})
    versions = ", ".join(sorted({v for r in records for v in r.versions}))
    return "\n".join(
        [*lines, "", f"Versions: {versions}. Chosen or reached, seed 0:", "", *(f"- {n}" for n in notes)]
    )


def parse() -> argparse.Namespace:
    names, tasks = [method.name for method in methods(0.0)], [recipe.name for recipe in RECIPES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=names, default=names, help="all by default")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, help="all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cap-minutes", type=float, default=15, help="CPU minutes allowed a peer (15)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument(
        "--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of the h5mu files"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results_imputation", help="folder of the records")
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    known = methods(60 * arguments.cap_minutes)
    # Questions to one fitted model stand side by side, so that it is fitted once.
    wanted = [
        (method, recipe, seed)
        for seed in arguments.seeds
        for data_set in dict.fromkeys(recipe.data_set for recipe in RECIPES)
        for fusion in ("", "product", "gated")
        for method in known
        for recipe in RECIPES
        if method.name.split("_")[0] == fusion
        or (not fusion and not method.name.startswith(("product", "gated")))
        if recipe.data_set == data_set
        and method.name in arguments.methods
        and recipe.name in arguments.tasks
        and (not method.tasks or recipe.name in method.tasks)
    ]
    missing = [
        (method, recipe, seed)
        for method, recipe, seed in ([] if arguments.table else wanted)
        if arguments.redo or not place(arguments.out, method, recipe, seed).exists()
    ]
    apart = [each for each in missing if each[0].is_peer and not arguments.in_process]
    for method, recipe, seed in missing:
        if (method, recipe, seed) not in apart:
            run(method, recipe, seed, arguments)
    for seed in dict.fromkeys(seed for _, _, seed in apart):
        for peer in dict.fromkeys(method.name.split("_")[0] for method, _, _ in apart):
            own = [(m, r) for m, r, s in apart if s == seed and m.name.split("_")[0] == peer]
            if own:
                run_peers(own, seed, arguments)
    if not arguments.in_process:
        write_between_markers("imputation", table(arguments.out, known))


if __name__ == "__main__":
    main()
