"""Reading a file that somebody else may have put there."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from multiomics_vae.errors import CheckpointError

MEND = "Copy or download the folder again, or save the model anew."


def shown(value: object) -> str:
    """Return a value as an error message quotes it: cut, if it is long.

    Examples
    --------
    >>> shown("rna")
    "'rna'"
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print a very long one
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file that must be an ordinary one; links are not followed.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Size above which it is not read.

    Raises
    ------
    CheckpointError
        If it is missing, a link, a device, too large, or cannot be read.

    Examples
    --------
    >>> read_file(Path("run/model/config.json"), MAX_DOCUMENT_BYTES)  # doctest: +SKIP
    b'{}'
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise CheckpointError(f"{path} is a link, which is not followed. Copy it: cp -rL SOURCE TARGET")
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path} is not an ordinary file. {MEND}")
        # A link put there since then is refused by the system itself, where it can do that.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > max_bytes:
                raise CheckpointError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read. {MEND}")
            return file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. {MEND}") from error


def what_it_looks_like(data: bytes) -> str:
    """Return a sentence on what was put in the place of a file, or nothing if that cannot be told.

    Examples
    --------
    >>> what_it_looks_like(b"version https://git-lfs.github.com/spec/v1")
    'It is a git-LFS pointer, not the file itself. Fetch the file: git lfs pull'
    """
    if data.startswith(b"version https://git-lfs"):
        return "It is a git-LFS pointer, not the file itself. Fetch the file: git lfs pull"
    if data.startswith(b"PK\x03\x04"):
        return f"It is a zip archive, as torch.save writes it, and is not opened. {MEND}"
    if re.match(rb"\x80[\x02-\x05]", data):
        return f"It may be a pickle, and is not opened. {MEND}"
    return MEND
