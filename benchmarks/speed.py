"""MultiVAE against MULTIVI: seconds of a step, memory, embedding, growth, and the machine's floor.

    python benchmarks/speed.py --threads 2                 # everything, about 20 minutes
    python benchmarks/speed.py --tiny --parts step         # try the script out; RESULTS.md stays as it is
    python benchmarks/speed.py --table                     # run nothing, write the table again

Every model lives in a process of its own; the models take turns, so that a change in the machine's load
meets all of them; medians over the rounds are shown. Each part leaves a JSON record in ``--out``, and
the table over all records is written between its markers in RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from markers import write_between_markers
from speed_floor import floor
from speed_latent import latent
from speed_memory import memory
from speed_records import PartRecord, Plan, full_sizes, read_part, tiny_sizes, write_part
from speed_scaling import scaling
from speed_step import step
from speed_table import table

HERE = Path(__file__).resolve().parent
PARTS: dict[str, Callable[[Plan], PartRecord]] = {
    "step": step,
    "memory": memory,
    "latent": latent,
    "scaling": scaling,
    "floor": floor,
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="all by default")
    parser.add_argument("--cells", type=int, default=2_000, help="cells of the step and floor parts (2000)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds at the most (5)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every process (2)")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128])
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results_speed", help="folder of the records")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    parser.add_argument("--tiny", action="store_true", help="try out with tiny data; print the table only")
    arguments = parser.parse_args()
    for name in ("cells", "repeats", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if min(arguments.batch_sizes) < 2:
        parser.error("--batch-sizes must be at least 2")
    if arguments.cells < 3 * max(arguments.batch_sizes) and not arguments.tiny:
        parser.error(
            f"a step is timed from three full minibatches on: --cells {3 * max(arguments.batch_sizes)}"
        )
    return arguments


def main() -> None:
    arguments = parse()
    for name in THREAD_VARIABLES:  # the workers inherit them
        os.environ[name] = str(arguments.threads)
    plan = Plan(
        tiny_sizes() if arguments.tiny else full_sizes(arguments.cells),
        arguments.repeats,
        arguments.threads,
        (32,) if arguments.tiny else tuple(arguments.batch_sizes),
        arguments.accelerator,
    )
    folder = arguments.out / "tiny" if arguments.tiny else arguments.out
    if not arguments.table:
        for name in arguments.parts:
            write_part(folder, PARTS[name](plan))
    records = [read_part(path) for path in sorted(folder.glob("*.json"))]
    if arguments.tiny:
        print(table(records))
        return
    write_between_markers("speed", table(records))
    print(f"table of {len(records)} parts: {HERE / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
