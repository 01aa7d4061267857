"""At every instant of a save the old or the new model is whole, whatever stops it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from saved_models import assert_same, example

from multiomics_vae.errors import CheckpointError, MultiomicsWarning
from multiomics_vae.training.atomic import find_folder, replace_folder, restore_folder
from multiomics_vae.training.checkpoint import load_checkpoint, read_manifest, save_checkpoint

OLD = example()
NEW = replace(OLD, config={"n_latent": 5}, tensors={"weight": torch.ones(2, 3)})


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # slow, and not needed to set the scene
        save_checkpoint(tmp_path / "model", OLD)
    return tmp_path / "model"


def fail_on_call(original: Callable[..., object], number: int, error: BaseException) -> Callable[..., object]:
    calls = iter(range(1, 10_000))

    def wrapped(*arguments: object, **options: object) -> object:
        if next(calls) == number:
            raise error
        return original(*arguments, **options)

    return wrapped


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    replace_folder(tmp_path / "a" / "b", {"x": b"1", "y": b"2"})
    replace_folder(tmp_path / "a" / "b", {"z": b"3"})
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["b", "z"]
    assert (tmp_path / "a" / "b" / "z").read_bytes() == b"3"
    with pytest.raises(OSError, match="exists"):
        replace_folder(tmp_path / "a" / "b" / "z" / "below a file", {})


def test_find_and_restore_take_the_folder_itself_first(tmp_path: Path) -> None:
    folder, aside = tmp_path / "model", tmp_path / ".model.multiomics-old"
    assert find_folder(folder, "mark") == folder
    replace_folder(aside, {"mark": b"old"})
    with pytest.warns(MultiomicsWarning, match="interrupted"):
        assert find_folder(folder, "mark") == aside
    assert find_folder(folder, "another mark") == folder
    restore_folder(folder)
    assert not aside.exists()
    replace_folder(aside, {"mark": b"older"})
    restore_folder(folder)
    assert (find_folder(folder, "mark") / "mark").read_bytes() == b"old"


# Bad input 46: killed while saving

KILLED_EVERYWHERE = """
import builtins, json, os, signal, sys, warnings
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from saved_models import assert_same, example
from dataclasses import replace
from multiomics_vae.errors import CheckpointError
from multiomics_vae.training import atomic
from multiomics_vae.training.checkpoint import load_checkpoint, save_checkpoint

warnings.simplefilter("ignore")
os.fsync = lambda descriptor: None  # killing a process loses nothing the system has taken; flushing is slow
OLD, NEW, NEWER = (replace(example(), config={"age": age}) for age in ("old", "new", "newer"))


def save_until(folder, deadly):
    # Runs in a child process, which kills itself before its deadly-th step.
    steps = iter(range(10_000))

    def step():
        if next(steps) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(original):
        def wrapped(*arguments, **options):
            step()
            return original(*arguments, **options)
        return wrapped

    class HalfWriting:
        def __init__(self, *arguments):
            step()
            self.file = builtins.open(*arguments)
        def __enter__(self):
            return self
        def __exit__(self, *_):
            self.file.close()
        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            step()
            self.file.write(content[len(content) // 2 :])
        def flush(self):
            self.file.flush()
        def fileno(self):
            return self.file.fileno()

    atomic.open = HalfWriting
    for name in ("rename", "mkdir", "fsync", "unlink", "rmdir"):
        setattr(os, name, stepping(getattr(os, name)))
    save_checkpoint(folder, NEW, overwrite=True)


seen = []
for had_old in (True, False):
    for deadly in range(10_000):
        folder = Path(sys.argv[1]) / f"{had_old}-{deadly}" / "model"
        if had_old:
            save_checkpoint(folder, OLD)
        child = os.fork()
        if child == 0:
            save_until(folder, deadly)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, status
        moved = not folder.exists()
        try:
            found = load_checkpoint(folder)
        except CheckpointError as error:
            age = "none" if "no saved model" in str(error) else repr(error)
        else:
            age = found.config["age"]
            assert_same(found, {"old": OLD, "new": NEW}[age])
        seen.append([had_old, age, moved, killed])
        atomic._LEFTOVER_AGE_S = -1.0
        save_checkpoint(folder, NEWER, overwrite=True)
        assert_same(load_checkpoint(folder), NEWER)
        assert os.listdir(folder.parent) == ["model"], os.listdir(folder.parent)
        if not killed:
            break
print(json.dumps(seen))
"""


def test_row_46_killed_at_any_step_leaves_a_whole_model(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path), str(Path(__file__).parent)]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    replaced = [(age, moved) for had_old, age, moved, killed in seen if had_old and killed]
    assert len(replaced) > 25
    # First the old one in its place, for one instant the old one aside, then the new one.
    order = list(dict.fromkeys(replaced))
    assert order == [("old", False), ("old", True), ("new", False)]
    assert replaced.count(("old", True)) == 1
    first = [age for had_old, age, _, killed in seen if not had_old and killed]
    assert list(dict.fromkeys(first)) == ["none", "new"]
    assert [age for _, age, _, killed in seen if not killed] == ["new", "new"]


def test_leftovers_of_killed_saves_are_removed_once_old(saved: Path) -> None:
    names = (".model.tmp-0123456789abcdef", ".model.tmp-fedcba9876543210", ".model.tmp-mine", ".models.old")
    for name in names:
        (saved.parent / name).mkdir()
    long_ago = time.time() - 7200
    for name in (names[0], *names[2:]):
        os.utime(saved.parent / name, (long_ago, long_ago))
    save_checkpoint(saved, NEW, overwrite=True)
    assert sorted(os.listdir(saved.parent)) == sorted(["model", *names[1:]])


def test_interrupted_save_is_found_read_and_mended(saved: Path) -> None:
    aside = saved.parent / ".model.multiomics-old"
    saved.rename(aside)
    with pytest.warns(MultiomicsWarning, match=r"interrupted.*To put it back: mv"):
        assert_same(load_checkpoint(saved), OLD)
    with pytest.warns(MultiomicsWarning, match="interrupted"):
        assert read_manifest(saved).class_name == "MultiVAE"
    assert aside.exists()
    with pytest.raises(CheckpointError, match="overwrite=True"):
        save_checkpoint(saved, NEW)
    assert_same(load_checkpoint(saved), OLD)
    assert os.listdir(saved.parent) == ["model"]


def test_stale_copy_aside_never_wins(saved: Path) -> None:
    (saved.parent / ".model.multiomics-old").mkdir()
    assert_same(load_checkpoint(saved), OLD)
    save_checkpoint(saved, NEW, overwrite=True)
    assert os.listdir(saved.parent) == ["model"]


# Bad input 47: the disk refuses


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize(
    ("function", "number"),
    [("mkdir", 2), ("rename", 1), ("rename", 2), *(("fsync", number) for number in range(1, 7))],
)
def test_one_failure_leaves_the_old_model_and_nothing_else(
    saved: Path, function: str, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        error = OSError(code, os.strerror(code))
        patch.setattr(os, function, fail_on_call(getattr(os, function), number, error))
        with pytest.raises(CheckpointError, match=rf"could not be saved to .*model.*{os.strerror(code)}"):
            save_checkpoint(saved, NEW, overwrite=True)
    assert os.listdir(saved.parent) == ["model"]
    assert_same(load_checkpoint(saved), OLD)


def test_renaming_that_fails_for_good_leaves_the_old_model_findable(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = os.rename, []

    def dying(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) > 1:
            raise OSError(errno.EIO, "disk gone")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying)
        with pytest.raises(CheckpointError, match="disk gone"):
            save_checkpoint(saved, NEW, overwrite=True)
    assert len(calls) == 3
    assert os.listdir(saved.parent) == [".model.multiomics-old"]
    with pytest.warns(MultiomicsWarning, match="interrupted"):
        assert_same(load_checkpoint(saved), OLD)


def test_interrupt_between_the_renames_puts_the_old_model_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_on_call(os.rename, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(saved, NEW, overwrite=True)
    assert os.listdir(saved.parent) == ["model"]
    assert_same(load_checkpoint(saved), OLD)


def test_failure_to_remove_the_old_model_only_warns(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_on_call(os.rename, 3, OSError(errno.EACCES, "not yours")))
        with pytest.warns(MultiomicsWarning, match=r"is saved, but an older copy.*not yours"):
            save_checkpoint(saved, NEW, overwrite=True)
    assert_same(load_checkpoint(saved), NEW)
    save_checkpoint(saved, OLD, overwrite=True)
    assert os.listdir(saved.parent) == ["model"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_system_that_cannot_flush_a_folder_is_enough(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_files = 5
    monkeypatch.setattr(os, "fsync", fail_on_call(os.fsync, n_files + 1, OSError(code, "cannot")))
    save_checkpoint(tmp_path / "model", OLD)
    assert_same(load_checkpoint(tmp_path / "model"), OLD)


def test_row_47_really_full_disk(saved: Path) -> None:
    resource = pytest.importorskip("resource")
    large = replace(OLD, tensors={"weight": torch.ones(100_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="could not be saved"):
            save_checkpoint(saved, large, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(saved.parent) == ["model"]
    assert_same(load_checkpoint(saved), OLD)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_row_47_really_read_only_folder() -> None:
    with pytest.raises(CheckpointError, match="save to a folder that you may write"):
        save_checkpoint("/proc/model", OLD)


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be saved"):
        save_checkpoint(tmp_path / "file" / "model", OLD)
    assert (tmp_path / "file").read_text() == "mine"
