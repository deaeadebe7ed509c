"""The command line, `fedplane COMMAND`: what commands there are, and how a failure of one of them ends.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the run, or the app in it, failed or was cancelled |
| 2 | what was given cannot be used: an argument, a file, the name of a run |
| 3 | the bus cannot be reached, or did not do what was asked |
| 4 | this machine cannot do it: a port in use, no disk, a program missing |
| 130 | interrupted |

Whatever fails, one sentence on standard error says what was wrong, and one says what to do if the first does not.
"""

import sys

import typer

from fedplane.cli import bundling, commands, demo, local
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
from fedplane.runtime.service import configure_logs

__all__ = ["COMMANDS", "ENDINGS", "app", "ending", "main"]

COMMANDS = {
    "A federation on this machine": (demo.demo, local.up, local.down),
    "Runs": (commands.submit, commands.get, commands.watch, commands.explain, commands.cancel, commands.events),
    "Models": (commands.model, commands.keep),
    "Apps": (bundling.bundle,),
}
"""Every command, by the heading under which help lists it."""

ENDINGS: tuple[tuple[type[FedplaneError], int, str], ...] = (
    (BadInput, 2, ""),
    (Unreachable, 3, "`fedplane up` starts a federation on this machine; --state names another one's directory, --url its server"),
    (BusFull, 3, "nothing that was accepted is lost; free disk space on the server's machine, or raise its limits"),
    (Denied, 3, "ask whoever runs the server for permission"),
    (Corrupt, 3, "try again; if it stays, the bytes on the server are damaged, or gone with the round that made them"),
    (BusError, 3, "try again"),
    (ApiError, 3, "try again; if it stays, the API server's own log says why"),
    (Unavailable, 4, ""),
    (AppFailed, 1, ""),
)
"""For each kind of error, the exit code and what to do; the first kind that fits counts."""

app = typer.Typer(
    help="Federated learning on a message bus: run a federation, submit runs, see what they do and why.",
    epilog="Exit codes: 0 done, 1 the run failed or was cancelled, 2 bad input, 3 the bus cannot be reached or did not do it, "
    "4 this machine cannot do it, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for heading, functions in COMMANDS.items():
    for function in functions:
        app.command(rich_help_panel=heading)(function)


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    configure_logs("warning")
    try:
        app(prog_name="fedplane")
    except FedplaneError as error:
        code, said = ending(error)
        typer.echo(said, err=True)
        sys.exit(code)


def ending(error: FedplaneError) -> tuple[int, str]:
    """The exit code and the words with which the error ends the program."""
    code, advice = next((code, advice) for kind, code, advice in ENDINGS if isinstance(error, kind))
    return code, f"error: {error}" + (f"\n{advice}" if advice else "")


if __name__ == "__main__":
    main()
