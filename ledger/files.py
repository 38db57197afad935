"""Write files and folders atomically: at any moment the path holds the former file or the new one, never a part of it.

The content goes to a temporary file in the same directory, ``.NAME.RANDOM.part``, which is synced and then renamed. If
writing raises an exception, the temporary file is removed. If the process is killed, the temporary file stays, and the
next write to the same path removes it. A temporary file counts as abandoned if no process holds its lock.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ledger.errors import InvalidInput

if sys.platform != "win32":
    import fcntl

_SUFFIX = ".part"
#: Paths of a process's open files. If one is a file, its name may not be known here, so it is written where it is.
_OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
#: Errors that say that a file system has no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
#: Errors that say that a directory cannot be synced by this user or on this file system.
_NO_SYNC = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EISDIR}

#: Errors of writes, which do not name the file.
_ON_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def is_from_system(error: OSError) -> bool:
    """Return True if the operating system reported the error.

    A signal handler that ends a call after some time often raises TimeoutError, which is an OSError, but has no errno.
    """
    return error.errno is not None


@contextmanager
def whole_file(path: Path, *, private: bool = False, replace: bool = True) -> Iterator[IO[bytes]]:
    """Context manager that opens a temporary file for writing, and renames it to ``path`` after the block.

    See ``whole_path``. Devices and pipes, such as ``/dev/null``, cannot be replaced and are written directly.

    Raises:
        OSError: The file cannot be written.
    """
    if _is_special(path):
        with _named(path), open(path, "wb") as file:
            yield file
        return
    with whole_path(path, private=private, replace=replace) as part, open(part, "wb") as file:
        yield file


@contextmanager
def _named(path: Path, part: Path | None = None) -> Iterator[None]:
    """Context manager that names the path in an error of a write, which names no file or the temporary one."""
    try:
        yield
    except OSError as error:
        if (error.filename is None and error.errno in _ON_DISK) or (part and str(error.filename) == str(part)):
            error.filename = str(path)
        raise


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path without ``.`` and ``..``, so that a file named from other folders has one path.

    Symbolic links stay in the path, except those before a ``..`` that leads from the link's target to another folder
    than the text says.
    """
    found = Path(path).absolute()
    if ".." not in found.parts:
        return found
    plain, real = Path(os.path.normpath(found)), os.path.realpath(found)
    return plain if os.path.realpath(plain) == real else Path(real)


@contextmanager
def whole_path(path: Path, *, private: bool = False, replace: bool = True) -> Iterator[Path]:
    """Context manager that yields the path of an empty temporary file, and renames it to ``path`` after the block.

    If the block raises or the process is killed, ``path`` holds what it held before. If ``path`` is an existing file,
    the new file gets its permissions. If it is a symbolic link, the file that it points to is replaced.

    Args:
        path: The file.
        private: True to let only the owner read and write a new file, whatever the umask says.
        replace: True to replace an existing file, False to raise FileExistsError instead. With False, a file that
            another process creates during the block is not overwritten either.

    Raises:
        FileExistsError: The file exists, and ``replace`` is False.
        FileNotFoundError: The directory of the file is missing; ``filename`` names the directory.
        OSError: The file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    remove_leftovers(path)
    part, descriptor = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}{_SUFFIX}"), -1
    with _named(path, part):
        try:
            while descriptor < 0 or not part.exists():  # another process may take it for abandoned before it is locked
                descriptor = _closed(descriptor)
                descriptor = _open_locked(part, _mode(path, private))
            yield part
            os.fsync(descriptor)
            if sys.platform == "win32":  # an open file cannot be renamed there
                descriptor = _closed(descriptor)
            _put_in_place(part, path, replace)
            _sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)
            _closed(descriptor)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Context manager that yields an empty temporary folder, and renames it to ``path`` after the block.

    If the block raises or the process is killed, there is nothing at ``path``, as before. Only the owner may read the
    new folder. The files in it must have been synced in the block.

    Args:
        path: The folder. It must not exist, or be an empty folder. A symbolic link to one is followed.

    Raises:
        FileExistsError: There is a file, or a folder that is not empty.
        FileNotFoundError: The folder in which the new folder is to be is missing; ``filename`` names it.
        OSError: The folder cannot be written.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    _check_vacant(path)
    remove_leftovers(path)
    part = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}{_SUFFIX}")
    descriptor = -1
    with _named(path, part):
        try:
            while not part.exists():  # another process may take it for abandoned before it is locked
                descriptor = _closed(descriptor)
                part.mkdir(mode=0o700)
                descriptor = _locked_folder(part)
            yield part
            _sync_directory(part)
            if path.exists():
                _check_vacant(path)
                path.rmdir()
            part.rename(path)
            _sync_directory(path.parent)
        finally:
            if part.exists():
                shutil.rmtree(part)
            _closed(descriptor)


def _check_vacant(path: Path) -> None:
    if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def remove_leftovers(path: Path, status: os.stat_result | None = None) -> None:
    """Remove the temporary files that killed processes left for a path.

    Args:
        path: The file.
        status: The result of ``stat`` for the file. If it is given, temporary files that are hard links to the file are
            removed too. A process that is killed between creating the link and deleting it leaves such a file.
    """
    prefix = _prefix(path)
    try:
        found = [each for each in list(path.parent.iterdir()) if _is_part(each.name, prefix)]
    except OSError as error:  # the caller learns why when it opens the file
        if not is_from_system(error):
            raise
        return
    for part in found:
        try:
            if (status is not None and os.path.samestat(part.lstat(), status)) or _is_abandoned(part):
                if part.is_dir() and not part.is_symlink():
                    shutil.rmtree(part)
                else:
                    part.unlink()
        except OSError as error:
            # Another process was faster, or the file is somebody else's, or files cannot be locked here.
            if not is_from_system(error):
                raise


def check_apart(path: Path, own: Iterable[Path]) -> None:
    """Raise InvalidInput if a file to be written is one of the ledger's own files, or a link to one, or no path."""
    try:
        os.path.realpath(path)
    except ValueError as error:
        raise InvalidInput(f"{str(path)!r} cannot be the path of a file ({error}); nothing was written.") from error
    for each in own:
        if _is_same(path, each):
            raise InvalidInput(
                f"{path} is a file of the ledger itself or of its warehouse ({each.name}); nothing was written. Choose "
                "another file."
            )


def owner_and_mode(status: os.stat_result) -> str:
    """Return the owner, group and mode of a file as text, such as ``ada, group agents, mode 0640``."""
    owner, group = str(status.st_uid), str(status.st_gid)
    if sys.platform != "win32":
        import grp
        import pwd

        with suppress(KeyError):  # a user without a name, as in a container
            owner = pwd.getpwuid(status.st_uid).pw_name
        with suppress(KeyError):
            group = grp.getgrgid(status.st_gid).gr_name
    return f"{owner}, group {group}, mode {stat.S_IMODE(status.st_mode):04o}"


def _is_same(path: Path, other: Path) -> bool:
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return Path(path).samefile(other)  # callers may pass text
    except OSError as error:  # one of them does not exist
        if not is_from_system(error):
            raise
        return False


def _is_special(path: Path) -> bool:
    if str(path).startswith(_OPEN_FILES):
        return True
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not is_from_system(error):
            raise
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _prefix(path: Path) -> str:
    return f".{path.name[:40]}."  # a name may have 255 bytes, and the random part is added to it


def _is_part(name: str, prefix: str) -> bool:
    token = name.removeprefix(prefix).removesuffix(_SUFFIX)
    return name == f"{prefix}{token}{_SUFFIX}" and len(token) == 16 and set(token) <= set("0123456789abcdef")


def _mode(path: Path, private: bool) -> int | None:
    """Return the mode of the file that is to stand at ``path``; None if the umask decides it."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o600 if private else None


def _open_locked(part: Path, mode: int | None) -> int:
    """Create an empty file and lock it. Return its descriptor."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
    descriptor = os.open(part, flags, 0o666 if mode is None else 0o600)
    try:
        if mode is not None and sys.platform != "win32":
            os.fchmod(descriptor, mode)
        try:
            _lock(descriptor)
        except BlockingIOError:  # another process takes it for abandoned and is about to remove it
            part.unlink(missing_ok=True)
        except OSError as error:  # files cannot be locked here, so no process takes one for abandoned
            if not is_from_system(error):
                raise
    except BaseException:
        _closed(descriptor)
        raise
    return descriptor


def _locked_folder(folder: Path) -> int:
    """Lock a folder. Return its descriptor, or -1 if it is gone or folders cannot be locked here."""
    if sys.platform == "win32":
        return -1
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return -1
    try:
        _lock(descriptor)
    except OSError as error:  # another process takes it for abandoned, or no process can take one for abandoned
        if not is_from_system(error):
            _closed(descriptor)
            raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock a file for as long as it is open. Raise BlockingIOError if another process has locked it."""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_abandoned(part: Path) -> bool:
    """Return True if no process holds the lock of a temporary file. Raise OSError if the file system has no locks."""
    if sys.platform == "win32":
        return False
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _put_in_place(part: Path, path: Path, replace: bool) -> None:
    if replace:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
        part.unlink()
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # An empty file holds the name until it is replaced. No ledger is empty, so nothing takes it for one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        part.replace(path)


def _sync_directory(folder: Path) -> None:
    """Sync a directory, so that a rename in it is durable."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _closed(descriptor: int) -> int:
    """Close a file descriptor, and return -1. A descriptor of -1 means that no file is open, and is left alone."""
    if descriptor >= 0:
        os.close(descriptor)
    return -1
