"""What the documents say is there: links, commands, names, tables, and the examples of components."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from multiomics_vae import MultiVAE
from multiomics_vae.cli.app import app
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.heads import HEADS
from multiomics_vae.likelihoods import LIKELIHOODS
from multiomics_vae.networks.transforms import TRANSFORMS
from multiomics_vae.penalties import PENALTIES
from multiomics_vae.priors import PRIORS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "benchmarks", "data")
    for path in (ROOT / folder).glob("*.md")
)
README, DESIGN, COMPONENTS = "README.md", "docs/design.md", "docs/adding_a_component.md"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Anchors of headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (ROOT / page).parent / file if file else ROOT / page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), target


def test_pages_are_found() -> None:
    assert {README, DESIGN, COMPONENTS, "docs/index.md", "CONTRIBUTING.md", "data/README.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^|\s)make ([a-z-]+)(?=`| |$)", code_of(page), flags=re.MULTILINE)) <= targets


def code_of(page: str) -> str:
    """What stands in code of a page, inline or in blocks, a piece a line."""
    text = text_of(page)
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*blocks, *inline])


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_that_are_named_exist(page: str) -> None:
    named = re.findall(
        r"^((?:src/multiomics_vae|tests|benchmarks|docs)/[\w./-]+)$", code_of(page), flags=re.MULTILINE
    )
    examples = {path for path, _ in example_files()}
    assert [name for name in named if not (ROOT / name).exists() and name not in examples] == []


def test_options_of_the_command_line_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    calls = re.findall(r"multiomics-vae (\w+)((?:[^\n]|\\\n)*)", text_of(README).replace("\\\n", " "))
    assert {name for name, _ in calls} == {"fit", "info"}
    for name, arguments in calls:
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known


def test_tables_name_every_component() -> None:
    readme, design = text_of(README), text_of(DESIGN)
    for registry in (LIKELIHOODS, FUSION_RULES, PRIORS):
        for name in registry:
            assert re.search(rf"^\| `{name}`", readme, flags=re.MULTILINE), name
            assert f"`{name}`" in design, name
    for name in (*TRANSFORMS, *PENALTIES, *HEADS):
        assert f"`{name}`" in design, name


def test_the_methods_of_the_design_exist() -> None:
    table = text_of(DESIGN).partition("## Questions a fitted model answers")[2].partition("##")[0]
    names = re.findall(
        r"`(?:model\.)?([a-z_]+)(?:\([^`]*\))?`", "\n".join(re.findall(r"\|([^|]*)\|$", table, re.M))
    )
    assert {"get_latent_representation", "write_results", "history"} <= set(names)
    assert [name for name in names if not hasattr(MultiVAE, name) and name != "config"] == []


def example_files() -> list[tuple[str, str]]:
    """Path and content of every whole file in the guide to components."""
    return re.findall(
        r"`((?:src|tests)/[\w/]+\.py)`[^\n]*:\n\n```python\n(.*?)```", text_of(COMPONENTS), re.DOTALL
    )


@pytest.mark.slow
def test_the_examples_of_components_pass_the_contract_tests(tmp_path: Path) -> None:
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    files = dict(example_files())
    assert len(files) == 8
    likelihood = "src/multiomics_vae/likelihoods/geometric.py"
    (method,) = re.findall(r"```python\n(    def fused_terms.*?)```", text_of(COMPONENTS), re.DOTALL)
    base = "from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, "
    kernel = "from multiomics_vae.kernels.geometric import GeometricKernel\n"
    assert base in files[likelihood]
    files[likelihood] = files[likelihood].replace(base, f"{kernel}{base}FusedTerms, ") + "\n" + method
    for path, content in files.items():
        assert not (tmp_path / path).exists(), path
        (tmp_path / path).write_text(content, encoding="utf-8")
    rooms = [
        "tests/likelihoods",
        "tests/fusion",
        "tests/priors",
        "tests/networks",
        "tests/penalties",
        "tests/heads",
        "tests/test_combinations.py",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *rooms]
    names = "geometric or geometric_mean or tied_mixture or square_root or ridge or probit"
    done = subprocess.run(
        [*command, "-k", names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 60
