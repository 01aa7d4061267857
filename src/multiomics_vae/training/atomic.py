"""How a folder of files is written whole or not at all, and found again after a crash.

A folder ``model`` is replaced in this order:

1. the new files are written into ``.model.tmp-<random>`` beside it and flushed to the disk
2. ``model`` is renamed to ``.model.multiomics-old``
3. ``.model.tmp-<random>`` is renamed to ``model``
4. ``.model.multiomics-old`` is removed

A process killed before step 2 leaves the old folder in its place; between steps 2 and 3 it leaves the
old folder under the other name, where `find_folder` sees it; after step 3 the new folder is in place.
A rename is one step for the file system, so there is no instant at which neither is whole.

One process at a time may write a given folder. Two at once can make one of them fail with an error.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from multiomics_vae.errors import warn

_LEFTOVER_AGE_S = 3600.0


def find_folder(folder: Path, marker: str) -> Path:
    """Return where the whole folder lies: in its place, or aside after an interrupted replacement.

    Nothing on the disk is changed, so that a folder on a read-only disk can be read too.

    Parameters
    ----------
    folder
        The folder's own place.
    marker
        File that every such folder holds.

    Warns
    -----
    MultiomicsWarning
        If the folder is missing and the one that was moved aside is used.

    Examples
    --------
    >>> find_folder(Path("run/model"), "manifest.json")  # doctest: +SKIP
    PosixPath('run/model')
    """
    aside = _aside(folder)
    if os.path.lexists(folder) or not (aside / marker).is_file():
        return folder
    warn(
        f"{folder} is missing because a save was interrupted; the previous model is read from {aside}. "
        f"To put it back: mv '{aside}' '{folder}'",
    )
    return aside


def restore_folder(folder: Path) -> None:
    """Move a folder that an interrupted replacement left aside back to its place.

    Parameters
    ----------
    folder
        The folder's own place. If something is there, or nothing is aside, nothing is done.

    Raises
    ------
    OSError
        If the file system refuses.

    Examples
    --------
    >>> restore_folder(Path("run/model"))  # doctest: +SKIP
    """
    if not os.path.lexists(folder) and os.path.lexists(_aside(folder)):
        os.rename(_aside(folder), folder)


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that holds exactly these files; a folder already there is replaced as a whole.

    Parameters
    ----------
    folder
        Where to; parents are made.
    files
        File name -> content.

    Raises
    ------
    OSError
        If the file system refuses. The folder that was there is still there, and nothing half-written.

    Warns
    -----
    MultiomicsWarning
        If the new folder is in place but an older copy beside it could not be removed.

    Examples
    --------
    >>> replace_folder(Path("run/model"), {"manifest.json": b"{}"})  # doctest: +SKIP
    """
    aside, fresh = _aside(folder), _temporary(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(fresh)
        for name, content in files.items():
            _write_file(fresh / name, content)
        _flush_folder(fresh)
        if os.path.lexists(folder):
            _remove(aside, folder)
            os.rename(folder, aside)
        os.rename(fresh, folder)
    except BaseException:  # Ctrl-C between the two renames must put the old folder back as well
        try:
            restore_folder(folder)
        finally:
            # The error that brought us here is the one to report, not a failure to tidy up after it.
            shutil.rmtree(fresh, ignore_errors=True)
        raise
    _flush_folder(folder.parent)
    try:
        _remove(aside, folder)
        _remove_leftovers(folder)
    except OSError as error:
        warn(
            f"{folder} is saved, but an older copy beside it could not be removed: {error}",
        )


def _aside(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.multiomics-old"


def _temporary(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.tmp-{secrets.token_hex(8)}"


def _write_file(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable; without it a power cut can undo a rename."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a folder, and needs no such flush
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; there is nothing more to be done there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(aside: Path, folder: Path) -> None:
    """Remove what lies aside, if anything does; it is never seen there half removed."""
    if os.path.lexists(aside):
        doomed = _temporary(folder)
        os.rename(aside, doomed)
        shutil.rmtree(doomed)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary folders of killed saves, sparing one that another process may still be writing."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.tmp-[0-9a-f]{{16}}")
    for path in folder.parent.iterdir():
        if pattern.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _LEFTOVER_AGE_S:
            shutil.rmtree(path, ignore_errors=True)
