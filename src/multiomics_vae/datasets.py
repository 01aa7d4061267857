"""Small real data sets that come with the repository, and files of others, read with care.

The bundled files lie in the repository's ``data/`` folder, whose README says where they come from. An
installed wheel does not hold them: set ``MULTIOMICS_VAE_DATA`` to a folder that does.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multiomics_vae.data.untrusted_file import check_untrusted
from multiomics_vae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from mudata import MuData

FOLDER_VARIABLE = "MULTIOMICS_VAE_DATA"
_REPOSITORY_FOLDER = Path(__file__).resolve().parents[2] / "data"
# What an untrusted file may take in memory, unless it is said otherwise.
MOST_BYTES = 8 << 30
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class _BundledFile:
    file_name: str
    sha256: str


_SNARESEQ = _BundledFile(
    "snareseq_mouse_cortex_small.h5mu", "a771db341886e5d5f4cc6aac4136128ab5845bf5fb02ccf102fac63262344cf3"
)
_PBMC = _BundledFile(
    "pbmc_mosaic_midas.h5mu", "5113f34404956ae5d08df226e2724f8cb8fc58a93b4a110f2cfdb1ed016755cd"
)
_TCGA = _BundledFile("tcga_acc_mini.h5mu", "90fea0d11cf476afba54c15d6423fed6eaa1b3f001120e9eba4e8b739d523074")
_BUNDLED = {"pbmc_mosaic": _PBMC, "snareseq_mouse_cortex": _SNARESEQ, "tcga_acc_mini": _TCGA}


def available() -> tuple[str, ...]:
    """Name the bundled data sets whose file is there.

    Returns
    -------
    tuple of str
        Names of functions of this module, sorted; empty where no file is found. The content of the
        files is checked when they are loaded.

    Raises
    ------
    InputError
        If ``MULTIOMICS_VAE_DATA`` is set and is not a folder.

    Examples
    --------
    >>> from multiomics_vae import datasets
    >>> datasets.available()  # doctest: +SKIP
    ('pbmc_mosaic', 'snareseq_mouse_cortex', 'tcga_acc_mini')
    """
    folder = _folder()
    return tuple(name for name, bundled in _BUNDLED.items() if (folder / bundled.file_name).is_file())


def path(name: str) -> Path:
    """Find the file of a bundled data set.

    Parameters
    ----------
    name
        As in `available`.

    Raises
    ------
    InputError
        If there is no such data set.

    Examples
    --------
    >>> datasets.path("pbmc_mosaic")  # doctest: +SKIP
    """
    if name not in _BUNDLED:
        raise InputError(f"There is no bundled data set {name!r}. {did_you_mean(name, _BUNDLED)}")
    return _folder() / _BUNDLED[name].file_name


def snareseq_mouse_cortex() -> MuData:
    """Load 4 000 cells of the adult mouse cortex with RNA and open chromatin measured together.

    SNARE-seq (Chen, Lake & Zhang 2019, GSE126074): ``rna`` 1 677 genes, ``atac`` 10 141 peaks, both raw
    counts, both for every cell. The ATAC is shallow, about 86 of these peaks open in a cell.

    Returns
    -------
    MuData
        ``obs``: ``cell_type`` (22 types and ``Misc/unknown``), ``cell_type_coarse``, ``ident`` (the
        authors' short name of the type), ``batch`` (12 libraries).

    Raises
    ------
    InputError
        If the file is absent, damaged, or a git-lfs pointer.

    Examples
    --------
    >>> from multiomics_vae import datasets
    >>> mdata = datasets.snareseq_mouse_cortex()  # doctest: +SKIP
    """
    return _read(_SNARESEQ)


def pbmc_mosaic() -> MuData:
    """Load 1 600 blood cells of which some lack RNA and some lack proteins.

    CITE-seq (Hao et al. 2021, GSE164378) with modalities left out by He et al. 2024: ``rna`` 500 genes in
    batches ``p1_0``, ``p3_0``, ``p4_0``; ``prot`` 224 proteins in ``p2_0``, ``p3_0``, ``p4_0``; raw counts.

    Returns
    -------
    MuData
        ``obs``: ``cell_type`` (8 types), ``batch`` (4 of 400 cells each).

    Raises
    ------
    InputError
        If the file is absent, damaged, or a git-lfs pointer.

    Examples
    --------
    >>> from multiomics_vae import datasets
    >>> mdata = datasets.pbmc_mosaic()  # doctest: +SKIP
    """
    return _read(_PBMC)


def tcga_acc_mini() -> MuData:
    """Load 92 patients with adrenocortical carcinoma, measured in five ways, and how long they lived.

    Bulk tumours, a row a patient (TCGA-ACC as cut for MultiAssayExperiment, Ramos et al. 2017): ``rna`` 198
    genes, log2(RSEM + 1), 79 patients; ``cnv`` GISTIC levels -2 … 2 of 198 genes, 90; ``prot`` 33 proteins,
    46; ``mut`` 97 genes mutated or not, 90; ``mirna`` counts of 471, 80. Who lacks a modality has not got it.

    Returns
    -------
    MuData
        ``obs``: ``time_days`` and ``event`` (34 deaths; one at day 0), ``age``, ``stage`` (unknown is the
        text ``"nan"``), ``sex``, ``molecular_cluster``, ``coc``, ``purity``. The last three were made from
        the measurements, so they are no clinical covariates.

    Raises
    ------
    InputError
        If the file is absent, damaged, or a git-lfs pointer.

    Examples
    --------
    >>> from multiomics_vae import datasets
    >>> mdata = datasets.tcga_acc_mini()  # doctest: +SKIP
    """
    return _read(_TCGA)


def read(
    path: str | Path, *, trusted: bool = False, backed: bool = False, most_bytes: int = MOST_BYTES
) -> MuData:
    """Read an .h5mu file, looking first whether it stands by itself and how large it is.

    Parameters
    ----------
    path
        The file.
    trusted
        True if the file may point at others on this machine; then nothing is looked at first.
    backed
        Leave the ``X`` of every modality on disk, for data larger than the memory.
    most_bytes
        Memory that the file may take once it is unfolded (``X`` not counted if ``backed``).

    Raises
    ------
    InputError
        If there is no such file, or an untrusted one has external or soft links, external storage,
        virtual data sets, or exceeds the budget; nothing was read then.

    Examples
    --------
    >>> mdata = datasets.read("from_a_stranger.h5mu", backed=True)  # doctest: +SKIP
    """
    if not Path(path).is_file():
        raise InputError(
            f"There is no file {path}. Look at what is there: `os.listdir({str(Path(path).parent)!r})`"
        )
    if not trusted:
        check_untrusted(path, most_bytes, backed)
    import mudata

    with mudata.set_options(pull_on_update=False):
        return mudata.read_h5mu(path, backed=backed)


def _folder() -> Path:
    """The folder that the user named, else the repository's."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is None:
        return _REPOSITORY_FOLDER
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"The environment variable {FOLDER_VARIABLE} is {named!r}, which is not a folder. Point it to "
            f"the folder that holds {_SNARESEQ.file_name}, or unset it:\n    unset {FOLDER_VARIABLE}"
        )
    return folder


def _read(bundled: _BundledFile) -> MuData:
    path = _folder() / bundled.file_name
    if not path.is_file():
        raise InputError(
            f"There is no file {path}. The bundled data lies in the repository's data/ folder and is not "
            f"part of the installed package. Clone the repository and say where its data is:\n"
            f"    export {FOLDER_VARIABLE}=/path/to/multiomics_vae/data"
        )
    content = path.read_bytes()
    if content.startswith(_LFS_POINTER):
        raise InputError(
            f"{path} is a git-lfs pointer of {len(content)} bytes, not the data. Fetch the data:\n"
            f"    git lfs pull"
        )
    seen = hashlib.sha256(content).hexdigest()
    if seen != bundled.sha256:
        raise InputError(
            f"{path} is damaged or was changed: its SHA-256 is {seen[:12]}…, "
            f"expected {bundled.sha256[:12]}…. Restore it:\n    git checkout -- data/{bundled.file_name}"
        )
    import mudata  # takes seconds, and names and errors above do not need it

    with mudata.set_options(pull_on_update=False):
        return mudata.read_h5mu(path)
