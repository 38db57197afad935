"""Creation of a DuckDB file: whole or not at all.

DuckDB creates a file empty, and fills it afterwards; on a full disk the empty file stays, and DuckDB refuses to open
it. So the database is created in a folder of its own, and its bytes are put in their place when they are complete. An
empty file that nobody has open counts as missing.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger.files import is_from_system, whole_file
from ledger.warehouse.duckdb.connection import Connection

if sys.platform != "win32":
    import fcntl


def absence(path: Path) -> str | None:
    """Return ``does not exist`` or ``is empty`` if there is nothing of a DuckDB file, or None."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:  # DuckDB says what is wrong
        if not is_from_system(error):
            raise
        return None
    return "is empty" if stat.S_ISREG(status.st_mode) and status.st_size == 0 else None


def create(path: Path, like: Path | None = None) -> None:
    """Create a DuckDB file, if it is missing or empty.

    Args:
        path: The file.
        like: An existing file, whose group and mode the new file gets; None to let only the owner read it.

    Raises:
        BlockingIOError: Another process has the empty file open, perhaps to fill it.
        OSError: The file cannot be created.
        duckdb.Error: DuckDB cannot create a file in this folder.
    """
    path = Path(os.path.realpath(path))
    if absence(path) is None or not path.parent.is_dir():  # DuckDB says what is wrong
        return
    if path.exists():
        _remove_empty(path)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:40]}.") as folder:
        made = Path(folder) / "new.duckdb"
        Connection.open(made).close()
        content = made.read_bytes()
    with suppress(FileExistsError), whole_file(path, private=True, replace=False) as file:  # another process was faster
        file.write(content)
        if like is not None:
            _share(file.fileno(), like)


def _share(descriptor: int, like: Path) -> None:
    """Give a new file to those who may read and write another one. A group gets access only if it is the same one."""
    if sys.platform == "win32":
        return
    try:
        wanted = like.stat()
    except FileNotFoundError:  # it was moved: nobody else gets access
        return
    own, mode = os.fstat(descriptor), stat.S_IMODE(wanted.st_mode) & 0o666 | 0o600
    if (own.st_uid, own.st_gid) != (wanted.st_uid, wanted.st_gid):
        owner = wanted.st_uid if os.geteuid() == 0 else -1
        with suppress(PermissionError):  # this user is not of the group
            os.fchown(descriptor, owner, wanted.st_gid)
    os.fchmod(descriptor, mode if os.fstat(descriptor).st_gid == wanted.st_gid else 0o600)


def _remove_empty(path: Path) -> None:
    """Remove an empty file, while no other process can open it with DuckDB."""
    if sys.platform == "win32":
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # DuckDB locks its files in the same way
        status = os.fstat(descriptor)
        if status.st_size == 0 and os.path.samestat(status, path.stat()):
            path.unlink()
    finally:
        os.close(descriptor)
