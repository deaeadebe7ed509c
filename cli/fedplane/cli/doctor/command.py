"""The command `fedplane doctor`: its options, and the looks in the order in which one mends what they find."""

from collections.abc import Iterator
from typing import Annotated

import typer

from fedplane.cli.connection import HERE, Where
from fedplane.cli.directory import Directory
from fedplane.cli.doctor.findings import Finding, Level, documents, picture, worst
from fedplane.cli.doctor.probing import bus_findings, hub_findings, machine_findings
from fedplane.cli.exits import Exit
from fedplane.cli.output import Output, OutputOption, show

__all__ = ["doctor"]


def doctor(
    where: Where = HERE,
    kubeconfig: Annotated[
        str, typer.Option(metavar="FILE", help="Look at a hub's API server as well; `in-cluster` for that of the pod that this runs in.")
    ] = "",
    context: Annotated[str, typer.Option(metavar="NAME", help="Which context of the kubeconfig; its current one if not given.")] = "",
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="On a hub: ask for the rights of the service accounts in this namespace, not for one's own.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for what is wrong with a federation, and say how to mend it.

    At the machine: Python, packages, leftover processes, port, disk. On the bus: version, streams, room, permissions, who lives, clocks.
    Of access: until when your certificate counts, and whose access ends.
    On a hub: kinds, our definition, rights. It only asks; nothing is changed.

    The exit code is 1 if there is a problem, 0 if there are warnings at most.

    Example: fedplane doctor

    Example: fedplane doctor --url tls://hub.example.org:4222 --credentials ann.pem --kubeconfig ~/.kube/config

    In a script: fedplane doctor -o json | jq '.[] | select(.level == "problem")'
    """
    findings = list(_findings(where, kubeconfig, context, namespace))
    show(output, documents(findings), lambda wide: picture(findings, wide=wide))
    if worst(findings) is Level.PROBLEM:
        raise typer.Exit(Exit.FAILED)


def _findings(where: Where, kubeconfig: str, context: str, namespace: str) -> Iterator[Finding]:
    directory = Directory.at(where.state)
    yield from machine_findings(directory, local=not where.url)
    if where.url:
        yield from bus_findings(where.server)
    elif directory.read_record():
        yield from bus_findings(where.server, f"`{directory.command('up')}` starts it, and goes on where it was", local=True)
    elif not kubeconfig:
        yield Finding(
            Level.PROBLEM, f"no federation is up in {directory.path}, and no --url names a server",
            f"`{directory.command('up')}` starts one; --state names another one's directory, --url its server", "bus", "reachable",
        )  # fmt: skip
    if kubeconfig:
        yield from hub_findings(kubeconfig, context, namespace)
