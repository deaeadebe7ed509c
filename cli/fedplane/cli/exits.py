"""How the program ends: every exit code, and what each kind of error means to whoever reads it.

One table for all: the end of `fedplane --help`, docs/reference/cli.md, and the program itself are made of it.
"""

from collections.abc import Mapping
from enum import IntEnum

from fedplane.runtime.errors import (
    ApiError,
    AppFailed,
    BadInput,
    BusError,
    BusFull,
    Corrupt,
    Denied,
    FedplaneError,
    Unavailable,
    Unreachable,
)

__all__ = ["ENDINGS", "MEANINGS", "Exit", "ending"]


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    BUS = 3
    MACHINE = 4
    INTERRUPTED = 130


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "the run, or the app in it, failed or was cancelled; doctor found a problem; or dead letters stay dead",
    Exit.BAD_INPUT: "what was given cannot be used: an argument, a file, the name of a run",
    Exit.BUS: "the bus, or the API server, cannot be reached, or did not do what was asked",
    Exit.MACHINE: "this machine cannot do it: a port in use, no disk, a program missing",
    Exit.INTERRUPTED: "interrupted",
}
"""What each means, in a few words."""

START_ONE = (
    "`fedplane up` starts a federation on this machine; --state names another one's directory, --url its server;"
    " `fedplane doctor` looks further"
)

ENDINGS: tuple[tuple[type[FedplaneError], Exit, str], ...] = (
    (BadInput, Exit.BAD_INPUT, ""),
    (Unreachable, Exit.BUS, START_ONE),
    (BusFull, Exit.BUS, "nothing that was accepted is lost; free disk space on the server's machine, or raise its limits"),
    (Denied, Exit.BUS, "ask whoever runs the server for permission"),
    (Corrupt, Exit.BUS, "try again; if it stays, the bytes on the server are damaged, or gone with the round that made them"),
    (BusError, Exit.BUS, "try again; if it stays, `fedplane doctor` looks for the cause"),
    (ApiError, Exit.BUS, "try again; if it stays, the API server's own log says why"),
    (Unavailable, Exit.MACHINE, ""),
    (AppFailed, Exit.FAILED, ""),
)
"""For each kind of error, the exit code and what to do; the first kind that fits counts."""


def ending(error: FedplaneError) -> tuple[int, str]:
    """The exit code and the words with which the error ends the program."""
    code, advice = next((code, advice) for kind, code, advice in ENDINGS if isinstance(error, kind))
    return code, f"error: {error}" + (f"\n{advice}" if advice else "")
