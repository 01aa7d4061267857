"""The Python blocks of README.md run as they stand, one after the other."""

from __future__ import annotations

import re
from functools import partialmethod
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


# Two minutes of one processor, which a busy machine stretches.
@pytest.mark.timeout(1_200)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiomics_vae import MultiVAE

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MultiVAE, "train", partialmethod(MultiVAE.train, max_epochs=2, progress=False))
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert (tmp_path / "run" / "model" / "manifest.json").is_file()
