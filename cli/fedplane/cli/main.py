"""The command line, `fedplane COMMAND`: what commands there are, and how a failure of one of them ends.

Whatever fails, one sentence on standard error says what was wrong, and one says what to do if the first does not.
The exit codes are in `exits`. Completion in a shell is typer's own; `completing` knows the words that only a bus knows.
"""

import sys

import typer

from fedplane.cli import access, bundling, commands, demo, events, local, page, viewing, webhooks
from fedplane.cli.connection import addressed
from fedplane.cli.doctor import command as doctor
from fedplane.cli.exits import MEANINGS, ending
from fedplane.runtime.errors import FedplaneError
from fedplane.runtime.service import configure_logs

__all__ = ["COMMANDS", "GROUPS", "app", "main"]

COMMANDS = {
    "A federation on this machine": (demo.demo, local.up, local.down),
    "Runs": (commands.submit, viewing.get, viewing.watch, viewing.explain, commands.cancel, events.events, webhooks.forward),
    "The federation": (page.ui, viewing.clusters, doctor.doctor),
    "Models": (commands.model, commands.keep),
    "Apps": (bundling.bundle,),
}
"""Every command, by the heading under which help lists it."""

GROUPS = {"Who may use the bus": ("access", access.app)}
"""Commands that have commands of their own, likewise."""

app = typer.Typer(
    help="Federated learning on a message bus: run a federation, submit runs, see what they do and why.",
    epilog="\n\n".join(("Exit codes:", *(f"{code:d}: {meaning}" for code, meaning in MEANINGS.items()))),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for heading, functions in COMMANDS.items():
    for function in functions:
        app.command(rich_help_panel=heading)(addressed(function))
for heading, (name, group) in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel=heading)


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    configure_logs("warning")
    try:
        app(prog_name="fedplane")
    except FedplaneError as error:
        code, said = ending(error)
        typer.echo(said, err=True)
        sys.exit(code)


if __name__ == "__main__":
    main()
