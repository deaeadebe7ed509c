"""Running the app's own server: in a process of its own, with rounds for what it asks, until it ends, and the run with it.

Whatever goes wrong with the server is the run's end, `failed`, with its last words. A bus that does not answer is asked again.
The process may be killed at any time, and so may this one: a fresh one runs the server again, on what the log has (see `replay`).
So nothing here is remembered that matters, and a second driver of the same run would only say what the first has said.
Who opens and closes the rounds is the aggregator.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import structlog
from structlog.contextvars import bound_contextvars

from fedplane.collaborator.apps import Answer as Result
from fedplane.collaborator.apps import Attend
from fedplane.collaborator.bundles import unpacked
from fedplane.collaborator.driver.files import Ask, Content, lay_out, left, put_away, read_ask, write_answers
from fedplane.collaborator.driver.replay import Drive, Driven, DriverState, Plan, Retire, answers, plan, sent_before
from fedplane.collaborator.transfers import fresh_attempt, insist, remove, store
from fedplane.runtime.errors import AppFailed, BadInput, BusError, FedplaneError
from fedplane.runtime.ports import Bus, Fence
from fedplane.runtime.replica import Replica
from fedplane.runtime.spans import Attributes, round_traceparent, run_traceparent
from fedplane.runtime.telemetry import span
from fedplane.schemas.bundles import Bundle
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Asked, Completed, Fact, Failed, run_level_facts_of
from fedplane.schemas.models import METRICS_MAX, Instruction, Model, Piece
from fedplane.schemas.resources import APP_ANNOTATION, FederatedLearning
from fedplane.schemas.subjects import asked_piece, model_piece

__all__ = ["Cut", "Driving", "Server", "StartServer"]

SERVER_RETURNED = "the app's server has returned"
"""The reason in `completed`."""

TEXT_CHARACTERS_MAX = 8_000
"""Of what is said of a failure: a long traceback fits."""

NOTHING: Mapping[str, Piece] = MappingProxyType({})

TRAINING = "train"
"""What an instruction's kind begins with that asks for training: only its replies can be folded."""


class Server(Protocol):
    """A process that runs the app's own server."""

    async def drive(self, directory: Path, attend: Attend) -> Result:
        """Run it to its end, and have attended to what it asks; see `AppProcess.drive`. Nothing of it runs any more afterwards."""
        ...


StartServer = Callable[[str, Path, Path], Server]
"""Makes the server of a run from the framework's name, the app's directory and a directory that is the server's own."""


class Cut:
    """How messages are cut, and how large they may be, in bytes."""

    def __init__(self, shard_bytes: int, chunk_bytes: int, content_bytes_max: int) -> None:
        self.shard_bytes = shard_bytes
        self.chunk_bytes = chunk_bytes
        self.content_bytes_max = content_bytes_max


class Driving:
    """The shell of one driver."""

    def __init__(
        self,
        bus: Bus,
        replica: Replica[DriverState],
        start: StartServer,
        *,
        workdir: Path,
        cut: Cut,
        servers_max: int,
        app: Path | None = None,
    ) -> None:
        self._bus = bus
        self._replica = replica
        self._start = start
        self._workdir = workdir
        self._cut = cut
        self._app = app
        self._places = asyncio.Semaphore(servers_max)
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._logger = structlog.get_logger()

    async def perform(self, effect: object) -> None:
        """Carry out what was decided."""
        match effect:
            case Drive(run):
                with bound_contextvars(run=run):
                    await self._guarded(run)
            case Retire(run):
                if run in self._driving:
                    self._driving[run].cancel()
                else:
                    put_away(self._workdir / run)

    async def _guarded(self, run: str) -> None:
        """Drive the run until its server ends, or somebody else ends the run."""
        work = self._driving[run] = asyncio.create_task(self._drive(run))
        try:
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):  # it is our own
                await work
            del self._driving[run]
            put_away(self._workdir / run)

    async def _drive(self, run: str) -> None:
        async with self._places:
            driven = self._driven(run)
            directory = self._workdir / run / "server"
            try:
                with span("run server", parent=run_traceparent(run), attributes={"fedplane.run": run}):
                    end: Completed | Failed = await self._run(run, driven, directory)
            except (AppFailed, BadInput, BusError, OSError) as failure:
                end = _failure(run, failure, self._replica.clock())
            await self._state(end, Fence(run_level_facts_of(run), self._driven(run).run_level), run_traceparent(run))

    async def _run(self, run: str, driven: Driven, directory: Path) -> Completed:
        """Run the server to its end; what it leaves, stored."""
        resource = driven.submitted.resource
        remove(directory)
        lay_out(directory, run, len(driven.participants), resource.spec.config)
        app = await asyncio.to_thread(self._app_of, run, resource)
        server = self._start(resource.spec.framework, app, directory.parent)
        sent: Counter[str] = Counter()
        answer = await server.drive(directory, partial(self._attend, run, directory, sent))
        driven = self._driven(run)
        content = await asyncio.to_thread(left, directory, self._cut.shard_bytes, self._cut.content_bytes_max)
        number = len(driven.rounds)
        model = await self._stored(run, number, content, partial(model_piece, run, number, fresh_attempt()))
        metrics = dict(list({**driven.metrics, **answer.metrics}.items())[-METRICS_MAX:])
        return Completed(run=run, at=self._replica.clock(), model=model, metrics=metrics, reason=SERVER_RETURNED)

    async def _attend(self, run: str, directory: Path, sent: Counter[str], number: int) -> None:
        """Answer what the server has asked under that number: from the log, and by a round for what the log does not have."""
        remove(directory / f"asked-{number - 1}")
        here, cut = directory / f"asked-{number}", self._cut
        ask = await asyncio.to_thread(read_ask, here, self._driven(run).participants, cut.shard_bytes, cut.content_bytes_max)
        while (planned := plan(self._driven(run), ask.wanted, sent)).fresh:
            await self._until(run, lambda driven: driven.is_idle)
            following = len(self._driven(run).rounds)
            with span("ask clusters", parent=round_traceparent(run, following), attributes=_about(run, following, len(planned.fresh))):
                await self._ask(run, ask, planned)
        if planned.differing:
            self._logger.warning(
                "what the server sends is not what it sent before; the log's replies are taken all the same",
                rounds=sorted({planned.rounds[place] for place in planned.differing}),
            )
        await self._until(run, lambda driven: all(driven.rounds[of].result for of in planned.rounds.values()))
        last = max(planned.rounds.values(), default=0)
        with span("answer server", parent=round_traceparent(run, last), attributes=_about(run, last, len(ask.wanted))):
            await write_answers(self._bus.bulk, here, answers(self._driven(run), ask.wanted, planned.rounds))
        sent.update(instruction.cluster for instruction in ask.wanted)

    async def _ask(self, run: str, ask: Ask, planned: Plan) -> None:
        """State what the log does not have. Afterwards it has it, or what another driver of the run was faster to ask."""
        driven = self._driven(run)
        number, attempt = len(driven.rounds), fresh_attempt()
        numbers = sorted({ask.numbers[place] for place in planned.fresh})
        before = sent_before(driven)
        contents = [
            await self._stored(run, number, ask.contents[of], partial(asked_piece, run, number, f"{attempt}-{index}"), before)
            for index, of in enumerate(numbers)
        ]
        instructions = tuple(
            Instruction(
                cluster=ask.wanted[place].cluster, kind=ask.wanted[place].kind, group=ask.wanted[place].group,
                content=numbers.index(ask.numbers[place]),
            )
            for place in planned.fresh
        )  # fmt: skip
        asked = Asked(
            run=run, round=number, at=self._replica.clock(), training_round=ask.training_round, instructions=instructions,
            contents=tuple(contents), timeout_seconds=ask.timeout_seconds,
            fold=driven.submitted.resource.spec.fold and all(each.kind.partition(".")[0] == TRAINING for each in instructions),
        )  # fmt: skip
        if not await self._state(asked, Fence(run_level_facts_of(run), driven.run_level), round_traceparent(run, number)):
            for index in range(len(contents)):
                await self._bus.bulk.purge(asked_piece(run, number, f"{attempt}-{index}", ">"))
        await self._until(run, lambda driven: len(driven.rounds) > number)

    async def _stored(
        self, run: str, number: int, content: Content, place: Callable[[int | str], str], before: Mapping[str, Piece] = NOTHING
    ) -> Model:
        """The content as it is stored. What was sent `before`, by digest, is not stored twice."""
        known = {shard: before[digest] for shard, digest in enumerate(content.digests) if digest in before}
        layout, shards = await insist(partial(store, self._bus.bulk, content.update, place, content.ranges, self._cut.chunk_bytes, known))
        size = content.update.bytes
        return Model(run=run, round=number, bytes=size, layout=layout, shards=shards, digest=content.digest)

    async def _state(self, fact: Fact, fence: Fence, traceparent: str | None) -> bool:
        """Whether it is this fact that the log has. Raises AppFailed when no log could have it."""
        try:
            outcome = await insist(partial(self._bus.log.state, fact, fence=fence, traceparent=traceparent))
        except Unreadable as error:
            raise AppFailed("too-large", f"what the app's server asks cannot be stated: {error}") from error
        self._logger.info("stated" if outcome.mine else "stated by another, or too late", subject=fact.subject)
        return outcome.mine

    async def _until(self, run: str, happened: Callable[[Driven], bool]) -> None:
        """Wait until the log says so of the run. If the run ends meanwhile, this is cancelled."""
        async with self._replica.changed:
            await self._replica.changed.wait_for(lambda: run in self._replica.state.runs and happened(self._replica.state.runs[run]))

    def _driven(self, run: str) -> Driven:
        driven = self._replica.state.runs.get(run)
        if driven is None:  # it has ended; whoever drives it is about to be cancelled, and there is nothing left to do
            raise asyncio.CancelledError
        return driven

    def _app_of(self, run: str, resource: FederatedLearning) -> Path:
        named = str(self._app or resource.metadata.annotations.get(APP_ANNOTATION, ""))
        if not named:
            raise BadInput(f"neither the run nor this driver says where the app is; set FEDPLANE_APP, or the annotation {APP_ANNOTATION}")
        bundle = Bundle.meant_by(named)
        return Path(named) if bundle is None else unpacked(bundle, self._workdir / run / "bundle")


def _about(run: str, round_: int, clusters: int) -> Attributes:
    return {"fedplane.run": run, "fedplane.round": round_, "fedplane.clusters": clusters}


def _failure(run: str, failure: FedplaneError | OSError, now: datetime) -> Failed:
    if isinstance(failure, AppFailed):
        said = f"; it last said:\n{failure.detail}" if failure.detail else ""
        text, reason = f"the app's server failed ({failure.reason}): {failure}{said}", "ServerFailed"
    else:
        text, reason = f"the app's server cannot be run: {failure}", "ServerNotRun"
    text = text[:TEXT_CHARACTERS_MAX].encode(errors="replace").decode()  # an app may print what is no text
    return Failed(run=run, at=now, reason=reason, message=text)
