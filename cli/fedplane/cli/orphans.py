"""No process that we started outlives us, even if we are killed with SIGKILL.

On Linux the kernel sees to it: a child asks to be killed when its parent dies (`PR_SET_PDEATHSIG`).
It asks for SIGKILL, not SIGTERM, since nobody is left to make sure that it obeys; the store and the log are made for that.
The request is the child's own and its children do not inherit it: a collaborator's runners notice by themselves that nobody listens.
Elsewhere, on macOS, there is no such request: orphans run on, and the next start ends those that `up.json` names.
On Linux that costs nothing and closes the instant in which we are gone and the kernel has not yet killed them all.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from fedplane.runtime.errors import Unavailable

__all__ = ["command_line", "die_with_parent", "end_orphans", "is_ours", "kill_group"]

PR_SET_PDEATHSIG = 1
"""From Linux's <sys/prctl.h>."""

ORPHANS_SECONDS = 5.0
"""How long to wait for killed processes to be gone: they only have to give back their memory."""


def die_with_parent() -> Callable[[], None] | None:
    """What a child has to call between fork and exec so that it dies with this process; None where the kernel does not offer it.

    The kernel takes the thread that forks for the parent, so it must be one that lives as long as the process: the main thread.
    """
    if sys.platform != "linux":
        return None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return ask


def kill_group(leader: int) -> None:
    """SIGKILL a process and everything in its group; nothing happens if they are gone."""
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of which only zombies are left
        os.killpg(leader, signal.SIGKILL)


def end_orphans(pids: Iterable[int], state: Path) -> None:
    """Kill those of the processes that a keeper of this directory started and did not live to end.

    A pid may by now be somebody else's, so its command line must be one of ours: it names the directory or runs a role.
    """
    orphans = [pid for pid in pids if is_ours(pid, state)]
    for pid in orphans:
        kill_group(pid)
    deadline = time.monotonic() + ORPHANS_SECONDS
    while left := [pid for pid in orphans if is_ours(pid, state)]:
        if time.monotonic() > deadline:
            raise Unavailable(f"processes {left} of an earlier start do not end; end them by hand")
        time.sleep(0.01)


def is_ours(pid: int, state: Path) -> bool:
    """Whether the process runs, and is one that a keeper of this directory may have started."""
    line = command_line(pid)
    return str(state) in line or " -m fedplane." in line


def command_line(pid: int) -> str:
    """A process's program and arguments; nothing if there is no such process or it is a zombie."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    said = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip()
