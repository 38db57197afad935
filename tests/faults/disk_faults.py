"""Disk faults of this process, without root and without a compiler.

SQLite calls the system through a table of functions that its tests replace (``sqlite3_vfs.xSetSystemCall``). While a
fault is played, ``pwrite`` of the SQLite that Python has loaded is a function of this module: it fails with ENOSPC or
EIO, before or after a part of the bytes, or writes fewer bytes than it was given, as a disk may. ``size_limit`` is the
kernel's own fault (RLIMIT_FSIZE): a write across the limit is short and the next one fails with EFBIG, in every file of
the process. A synced write that fails is not played: SQLite does not call ``fsync`` through its table.

No exception may strike a thread while a fault of SQLite's is played: after an exception in a function that C calls,
ctypes returns whatever the function returned before, and SQLite takes bytes for written that are not.

Source: https://www.sqlite.org/c3ref/vfs.html
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import random
import resource
import time
from collections.abc import Callable
from typing import Any

#: Faults of SQLite's own files, and the one of all files.
OF_SQLITE = ("disk_full", "io_error", "short_write")
OF_ALL_FILES = ("size_limit",)
#: Seconds within which a write that had begun when the fault ended has returned.
_LAST_CALLS = 0.2

_WRITE = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
)
_METHODS = (
    *("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness"),
    *("xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64"),
)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in _METHODS),
        ("xSetSystemCall", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)),
        ("xGetSystemCall", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)),
    ]


class DiskFaults:
    """The faults of this process's disk; one at a time.

    Args:
        chance: Decides which write is struck, and how many of its bytes are written.
        struck: Called with the kind of each fault that struck.
    """

    def __init__(self, chance: random.Random, struck: Callable[[str], object]) -> None:
        self._chance = chance
        self._struck = struck
        self._playing = ""
        self._stopped = 0.0
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._vfs = _find_vfs()
        self._writes: list[tuple[bytes, Any, Any]] = []  # name, the system's function, the one in its place
        if self._vfs is not None:
            for name in (b"pwrite", b"pwrite64"):
                address = self._vfs.contents.xGetSystemCall(self._vfs, name)
                if address:
                    self._writes.append((name, _WRITE(address), _WRITE(self._in_place_of(_WRITE(address)))))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be played here: the faults of SQLite's files only if its symbols can be found."""
        return (*(OF_SQLITE if self._writes else ()), *OF_ALL_FILES)

    @property
    def may_be_called(self) -> bool:
        """Whether SQLite may be in a function of this module, or about to be."""
        return bool(self._playing) or time.monotonic() < self._stopped + _LAST_CALLS

    def play(self, kind: str, *, size: int = 0) -> None:
        """Begin to play a fault.

        Args:
            kind: One of ``kinds``.
            size: With ``size_limit``, the size in bytes beyond which no file can grow.
        """
        self.stop()
        if kind in OF_ALL_FILES:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._limits[1]))
            self._struck(kind)  # which write it strikes, the kernel does not tell
            return
        self._playing = kind
        self._replace({name: mine for name, _, mine in self._writes})

    def stop(self) -> None:
        """Have the disk work again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        if self._playing:
            self._stopped = time.monotonic()
            self._playing = ""
            self._replace({name: None for name, _, _ in self._writes})

    def _replace(self, functions: dict[bytes, Any]) -> None:
        assert self._vfs is not None
        for name, function in functions.items():
            code = self._vfs.contents.xSetSystemCall(
                self._vfs, name, function and ctypes.cast(function, ctypes.c_void_p)
            )
            assert code == 0, f"SQLite did not replace {name.decode()}: {code}"

    def _in_place_of(self, real: Any) -> Callable[[int, int, int, int], int]:
        def write(file: int, data: int, count: int, offset: int) -> int:
            kind = self._playing
            if not kind or self._chance.random() < 0.5:
                return _call(real, file, data, count, offset)
            self._struck(kind)
            some = self._chance.randrange(count) if self._chance.random() < 0.5 else 0
            if kind == "short_write":
                return _call(real, file, data, max(some, 1), offset)
            if some:
                _call(real, file, data, some, offset)
            ctypes.set_errno(errno.ENOSPC if kind == "disk_full" else errno.EIO)
            return -1

        return write


def _call(real: Any, file: int, data: int, count: int, offset: int) -> int:
    written: int = real(file, data, count, offset)
    return written


def _find_vfs() -> Any:
    """SQLite's default VFS, in the library that Python uses; None if its symbols are hidden."""
    path = getattr(_sqlite3, "__file__", None)
    library = ctypes.CDLL(path)
    try:
        find = library.sqlite3_vfs_find
    except AttributeError:
        return None
    find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
    vfs = find(None)
    return vfs if vfs and vfs.contents.iVersion >= 3 and os.name == "posix" else None
