"""The authorizer: `python -m fedplane.authorizer.main`. Without one nobody connects, so where it matters there are two.

Servers are answered before the log is known, else nobody could make the log: services and operators from the beginning, collaborators and
subscribers when it was read. Then this process is ready.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fedplane.authorizer.answering import Answering
from fedplane.authorizer.crowds import Crowd
from fedplane.authorizer.ending import Ending
from fedplane.authorizer.following import Followed, Following
from fedplane.authorizer.grants import ASKED
from fedplane.authorizer.listening import Listeners
from fedplane.authorizer.policing import Policing
from fedplane.authorizer.settings import AuthorizerSettings
from fedplane.authorizer.standing import Known
from fedplane.authorizer.tokens import Signer
from fedplane.authorizer.trusting import Trusting
from fedplane.runtime.errors import BadInput
from fedplane.runtime.nats import Credentials
from fedplane.runtime.nats.callouts import Gate, open_gate
from fedplane.runtime.replica import Replica
from fedplane.runtime.service import serve_on
from fedplane.runtime.settings import read

__all__ = ["Authorizer", "Reading", "authorize", "main"]


LOOK_AGAIN_SECONDS = 1.0
"""How often to look at all connections while somebody is refused because he has too many: as often as he tries again."""


@dataclass
class Reading:
    """What was read of the log: nothing, before all of it was."""

    replica: Replica[Followed] | None = None

    def known(self) -> Known | None:
        return self.replica.state.known if self.replica is not None and self.replica.live.is_set() else None


@dataclass(frozen=True)
class Authorizer:
    """An authorizer that answers servers already, and what it takes to answer everybody."""

    gate: Gate
    reading: Reading
    crowd: Crowd
    first_bytes: int
    """What an update may have while its run has no model yet."""

    def is_connected(self) -> bool:
        """Whether everybody is answered: it is connected, and the log was read."""
        return self.gate.is_connected() and self.reading.known() is not None


@asynccontextmanager
async def _opened(settings: AuthorizerSettings, credentials: Credentials | None) -> AsyncIterator[Authorizer]:
    if credentials is None:
        raise BadInput("a bus without certificates has nobody to ask who may connect: set FEDPLANE_TLS_CERTIFICATE")
    reading = Reading()
    trusting = Trusting(settings.addon, clusters=settings.clusters_authority, services=settings.services_authority)
    crowd = Crowd()
    answering = Answering(Signer(_secret(settings.callout_seed)), trusting, reading.known, crowd, _now)
    async with open_gate(
        settings.nats_url,
        name=f"authorizer {settings.replica}",
        source=f"/fedplane/authorizer/{settings.replica}",
        credentials=credentials,
        passwords=(_secret(settings.callout_password), _secret(settings.system_password)),
        answer=answering,
    ) as gate:
        yield Authorizer(gate, reading, crowd, settings.bulk_bytes // 2)


async def authorize(authorizer: Authorizer, clock: Callable[[], datetime]) -> None:
    """Follow the log, have rights follow it, make readers for those who may make none, and see to it that nobody stores too much."""
    reading, gate = authorizer.reading, authorizer.gate

    async def look(effect: object) -> None:  # decided when the log was read, a moment before the replica says so
        await ending.look()
        await listeners.look()

    replica: Replica[Followed] = Replica(Following(), gate.log, perform=look, clock=clock)
    reading.replica = replica
    ending = Ending(gate.end, lambda: replica.state.known, authorizer.crowd, clock)
    policing = Policing(gate.log, gate.sizes, gate.sizes, authorizer.first_bytes, clock)
    listeners = Listeners(gate.readers, reading.known, policing.throw_out, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replica.run())
        await replica.live.wait()  # until then another replica may know what to answer
        await gate.readers.answer(ASKED, listeners.answer)
        tasks.create_task(policing.run())
        tasks.create_task(_look_again(authorizer.crowd, ending))


async def _look_again(crowd: Crowd, ending: Ending) -> None:
    """Whoever lost his connections a moment ago need not wait until all of them are looked at anyway."""
    seen = 0
    while True:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        if crowd.refused != seen:
            seen = crowd.refused
            await ending.look()


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the secret in {path} cannot be read: {type(error).__name__}") from error


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Run an authorizer until it is told to end."""
    settings = read(AuthorizerSettings)
    warnings.filterwarnings("ignore", "Attribute's length must be")  # OCM's names are longer than X.520 allows, and we know
    serve_on(partial(_opened, settings), "authorizer", settings, partial(authorize, clock=_now))


if __name__ == "__main__":
    main()
