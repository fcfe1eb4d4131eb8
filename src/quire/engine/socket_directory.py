"""The private directory of an engine's socket, and the removal of those that were left behind.

A front end that is killed cannot remove its own. Each holds a lock on a file in its directory
while it lives, and the kernel gives the lock up with the process: the next to start removes
every directory of this user whose lock is free.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "quire-"
_LOCK = "lock"
_LONGEST_SOCKET_PATH = 100  # sockaddr_un holds 107 characters, macOS' 103


class SocketDirectory:
    """A new directory that only this user can enter; `remove` it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(str(self.path)) > _LONGEST_SOCKET_PATH - 10:
            self.path.rmdir()
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        # Under its name there is never an unlocked file, or another process would take it.
        unnamed = self.path / "new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)
        _remove_abandoned(self.path.parent)

    def remove(self) -> None:
        """With all that is in it. May be called again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_abandoned(place: Path) -> None:
    for directory in place.glob(_PREFIX + "*"):
        try:
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another user's, another program's, or not locked yet
            continue
        try:
            if os.fstat(lock).st_uid != os.getuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:  # its owner lives
            pass
        finally:
            os.close(lock)
