"""The command line: what it writes, what it says, how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import mudata
import numpy as np
import pytest
from typer.testing import CliRunner

from multiomics_vae import MultiVAE
from multiomics_vae.cli import app as app_module
from multiomics_vae.cli import job as job_module
from multiomics_vae.cli.app import app
from multiomics_vae.cli.info import describe_run
from multiomics_vae.cli.job import FitJob, results_table, run_job
from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.training.manifest import FORMAT_VERSION
from small_models import make_cells, make_model, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PICTURES = ("umap.png", "training.png", "experts.png")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "cells.h5mu"
    path.parent.mkdir()
    make_cells(n_cells=40).write_h5mu(path)
    return path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours and UMAP take seconds to compile."""
    monkeypatch.setattr(job_module, "draw", lambda model, mdata, job: None)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """What the installed command does: the exit code."""
    monkeypatch.setattr(sys, "argv", ["multiomics-vae", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        app_module.main()
    return int(caught.value.code or 0)


def quick(cells: Path, out: Path, *more: object) -> list[str]:
    return [
        "fit",
        str(cells),
        "--out",
        str(out),
        "--max-epochs",
        "2",
        "--accelerator",
        "cpu",
        *map(str, more),
    ]


@pytest.mark.usefixtures("no_pictures")
def test_fit_writes_a_model_and_the_embedding(cells: Path, tmp_path: Path) -> None:
    before = cells.read_bytes()
    out = tmp_path / "run" / "deep"
    result = CliRunner().invoke(app, quick(cells, out, "--batch-key", "batch", "--n-latent", 4, "--seed", 3))
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["cells.h5mu", "model"]
    written = mudata.read_h5mu(out / "cells.h5mu")
    model = MultiVAE.load(out / "model", written)
    np.testing.assert_array_equal(written.obsm["X_multivae"], model.get_latent_representation())
    assert written.obsm["X_multivae"].shape == (40, 4)
    assert written["rna"].obsm["X_multivae"].shape == (40, 4)
    assert (model.config.n_latent, model.config.seed, model.history.n_epochs) == (4, 3, 2)
    assert model.schema.batch is not None
    assert cells.read_bytes() == before
    for words in ("held out, nats a cell", "rna log likelihood", "2 epochs", "Written to"):
        assert words in result.output


@pytest.mark.usefixtures("no_pictures")
def test_fit_passes_every_choice_on(cells: Path, tmp_path: Path) -> None:
    choices = "--likelihood rna=poisson --layer rna=raw --fusion gated --prior vamp --batch-size 8"
    covariates = "--categorical-covariate donor --continuous-covariate age"
    mdata = mudata.read_h5mu(cells)
    mdata["rna"].layers["raw"] = mdata["rna"].X * 2
    mdata.write_h5mu(cells)
    result = CliRunner().invoke(app, quick(cells, tmp_path / "run", *choices.split(), *covariates.split()))
    assert result.exit_code == 0, result.output
    model = MultiVAE.load(tmp_path / "run" / "model", mdata)
    rna = model.schema.modalities[0]
    assert (rna.likelihood, rna.layer, model.config.fusion, model.config.prior) == (
        "poisson",
        "raw",
        "gated",
        "vamp",
    )
    assert [c.key for c in (*model.schema.categorical, *model.schema.continuous)] == ["donor", "age"]


@pytest.mark.usefixtures("no_pictures")
def test_info_says_what_was_written(cells: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, quick(cells, tmp_path / "run")).exit_code == 0
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        result = CliRunner().invoke(app, ["info", str(folder)])
        assert result.exit_code == 0
        what = f"MultiVAE, format {FORMAT_VERSION}"
        for words in (what, "rna", "atac", "latent dimensions: 20", "epochs trained: 2"):
            assert words in result.output
        assert "best held-out ELBO: -" in result.output
    with pytest.raises(CheckpointError, match="no saved model"):
        describe_run(tmp_path)


@pytest.mark.usefixtures("no_pictures")
def test_row_54_results_are_replaced_only_if_asked(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert CliRunner().invoke(app, quick(cells, out)).exit_code == 0
    before = (out / "cells.h5mu").stat().st_mtime_ns
    refused = CliRunner().invoke(app, quick(cells, out))
    assert isinstance(refused.exception, InputError)
    assert "--overwrite" in str(refused.exception)
    assert (out / "cells.h5mu").stat().st_mtime_ns == before
    again = CliRunner().invoke(app, quick(cells, out, "--overwrite", "--fusion", "gated"))
    assert again.exit_code == 0
    assert "fusion: gated" in describe_run(out)


def refusals(cells: Path, tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    (tmp_path / "text.h5mu").write_text("no HDF5")
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "foreign" / "model").mkdir(parents=True)
    (tmp_path / "foreign" / "model" / "thesis.txt").write_text("mine")
    out = tmp_path / "out"
    return {
        "not an h5mu": (quick(tmp_path / "text.h5mu", out), "text.h5mu cannot be read as .h5mu"),
        "out is a file": (quick(cells, tmp_path / "taken"), "Nothing can be written into"),
        "out below a file": (quick(cells, tmp_path / "taken" / "run"), "Nothing can be written into"),
        "over the input": (quick(cells, cells.parent), "would overwrite the input"),
        "foreign folder": (quick(cells, tmp_path / "foreign", "--overwrite"), "no saved model"),
        "colour": (quick(cells, out, "--color", "batsch"), "Did you mean 'batch'"),
        "batch key": (quick(cells, out, "--batch-key", "batsch"), "Did you mean 'batch'"),
        "likelihood": (quick(cells, out, "--likelihood", "rna=nbb"), "Did you mean 'nb'"),
        "fusion": (quick(cells, out, "--fusion", "gatd"), "Did you mean 'gated'"),
        "row 40": (quick(cells, out, "--batch-size", "0"), "batch_size must be a whole number"),
        "row 52": (quick(cells, out, "--accelerator", "gup"), "cannot use accelerator='gup'"),
        "info": (["info", str(tmp_path / "nowhere")], "no saved model"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "not an h5mu",
        "out is a file",
        "out below a file",
        "over the input",
        "foreign folder",
        "colour",
        "batch key",
        "likelihood",
        "fusion",
        "row 40",
        "row 52",
        "info",
    ],
)
def test_errors_are_one_line_and_exit_code_one(
    case: str,
    cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, words = refusals(cells, tmp_path)[case]
    before = cells.read_bytes()
    assert run_main(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert error.split(":")[0] in ("InputError", "CheckpointError", "DeviceError")
    assert cells.read_bytes() == before
    assert not (tmp_path / "out" / "model").exists()


def test_wrong_usage_is_explained(cells: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(cells), "--out", "run", "--likelihood", "nb"])
    assert result.exit_code == 2
    assert "MODALITY=VALUE" in result.output
    missing = CliRunner().invoke(app, ["fit", str(tmp_path / "nowhere.h5mu"), "--out", "run"])
    assert missing.exit_code == 2
    assert "does not exist" in missing.output


def test_row_47_a_file_that_cannot_be_written_leaves_the_old_one(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdata = mudata.read_h5mu(cells)
    target = tmp_path / "cells.h5mu"
    target.write_bytes(b"old")

    def fail(self: mudata.MuData, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mudata.MuData, "write_h5mu", fail)
    with pytest.raises(InputError, match=r"cannot be written.*No space left.*--out run/"):
        job_module._write(mdata, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5mu", "in"]


def test_table_of_results() -> None:
    model = make_model()
    assert "stopped in its first pass" in results_table(model, 3.0)
    train(model, 3)
    lines = results_table(model, 61.7).splitlines()
    best = int(model.history["elbo_validation"].argmax())
    assert lines[0].split()[-2:] == ["epoch", str(best + 1)]
    elbo = next(line for line in lines if line.startswith("elbo"))
    values = model.history["elbo_validation"]
    assert [float(word) for word in elbo.split()[1:]] == pytest.approx(
        [values.iloc[0], values.max()], abs=0.01
    )
    assert lines[-1].split() == ["training", "62", "s", "3", "epochs"]
    assert not any("subset" in line or "loss" in line for line in lines)


@pytest.mark.slow
def test_pictures_are_drawn_and_other_figures_left_alone(cells: Path, tmp_path: Path) -> None:
    plt.close("all")
    mine = plt.figure()
    job = FitJob(cells=cells, out=tmp_path / "run", max_epochs=2, accelerator="cpu", colours=("donor", "age"))
    run_job(job)
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)
    for name in PICTURES:
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    assert mudata.read_h5mu(tmp_path / "run" / "cells.h5mu").obsm["X_umap"].shape == (40, 2)


@pytest.mark.slow
@pytest.mark.parametrize("n_cells", [4, 10])
def test_very_few_cells_are_drawn_too(n_cells: int, tmp_path: Path) -> None:
    make_cells(n_cells=n_cells, n_features=5).write_h5mu(tmp_path / "cells.h5mu")
    run_job(FitJob(cells=tmp_path / "cells.h5mu", out=tmp_path / "run", max_epochs=1, accelerator="cpu"))
    assert (tmp_path / "run" / "umap.png").exists()


@pytest.mark.slow
def test_the_installed_command(cells: Path, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("multiomics-vae")
    out = tmp_path / "run"
    done = subprocess.run(
        [command, *quick(cells, out, "--color", "batch")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(["cells.h5mu", "model", *PICTURES])
    assert "Written to" in done.stdout
    info = subprocess.run([command, "info", str(out)], capture_output=True, text=True, check=False)
    assert info.returncode == 0
    assert "epochs trained: 2" in info.stdout
    wrong = subprocess.run([command, "info", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (1, 1)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from multiomics_vae.cli import main\n"
        "sys.argv = ['multiomics-vae', 'fit', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'torch', 'scvi', 'scanpy', 'lightning', 'matplotlib', 'mudata'} & set(sys.modules)\n"
        "print('code', code, 'heavy', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--batch-key" in done.stdout
    assert "code 0 heavy []" in done.stdout


@pytest.mark.usefixtures("no_pictures")
def test_resume_ends_what_fit_began(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that dies after its training has begun is finished by `resume`, with the same outcome."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert CliRunner().invoke(app, quick(cells, whole)).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "_finish", lambda *_: 1 / 0)
        assert CliRunner().invoke(app, quick(cells, out, "--checkpoint")).exit_code == 1
    assert "a training under way, after step 2" in describe_run(out)
    done = CliRunner().invoke(app, ["resume", str(cells), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert not (out / "training").exists()
    one, other = (mudata.read_h5mu(folder / cells.name) for folder in (whole, out))
    np.testing.assert_array_equal(one.obsm["X_multivae"], other.obsm["X_multivae"])


def test_resume_without_a_training_says_how_to_begin_one(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "resume", cells, "--out", tmp_path / "run") == 1
    assert "holds no training to go on with. Begin one: --checkpoint with fit" in capsys.readouterr().err


@pytest.mark.slow
def test_two_devices_from_the_command_line(cells: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "multiomics-vae"), *quick(cells, tmp_path / "run")]
    done = subprocess.run(
        [*command, "--devices", "2"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written to") == done.stdout.count("latent dimensions") == 1
    assert (tmp_path / "run" / "umap.png").is_file()
    assert describe_run(tmp_path / "run").count("epochs trained: 2") == 1
