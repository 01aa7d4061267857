"""How soon each method reaches the best that MULTIVI reaches, and where each ends.

    python benchmarks/quality.py

Trains nothing: reads the records, with their curves, that embedding.py left. Writes the tables between their
markers in benchmarks/RESULTS.md and draws benchmarks/figures/quality.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from markers import RESULTS, command_line, write_between_markers
from quality_curves import SCORES, compare
from quality_figure import draw
from quality_table import table
from records import Record, read_json

HERE = Path(__file__).resolve().parent
FIGURE = HERE / "figures" / "quality.png"
PEER = "multivi"
OURS = (("MultiVAE, product", "product"), ("MultiVAE, gated", "gated"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="markdown file of the tables")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="PNG file of the figure")
    return parser.parse_args()


def records_of(folder: Path, method: str) -> list[Record]:
    """All seeds of a method.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    paths = sorted(folder.glob(f"{method}_seed*.json"))
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no {method}_seed*.json: python benchmarks/embedding.py --methods {method}"
        )
    return [read_json(path) for path in paths]


def main() -> None:
    arguments = parse()
    peer, *more = records_of(arguments.out, PEER)
    if more:
        raise ValueError(f"{arguments.out} holds several seeds of {PEER}: the comparison is with one run.")
    groups = [(text, records_of(arguments.out, method)) for text, method in OURS]
    compared = [(text, runs, [compare(score, peer, runs) for score in SCORES]) for text, runs in groups]
    image = f"![Score over CPU seconds of training](figures/{arguments.figure.name})"
    text = "\n\n".join([f"`{command_line()}`", image, table(peer, compared)])
    write_between_markers("quality", text, arguments.results)
    arguments.figure.parent.mkdir(parents=True, exist_ok=True)
    draw(arguments.figure, peer, [(text.replace(",", ""), runs) for text, runs in groups])
    print(f"{arguments.figure} and the tables in {arguments.results}")


if __name__ == "__main__":
    main()
