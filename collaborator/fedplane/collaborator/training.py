"""Answering an invitation: fetch the model, let the app work, send the update, state the answer.

Whatever goes wrong on the way is an answer as well, `declined` with a reason, and the round need not wait for its deadline to learn it.
Only a bus that does not answer is asked again, and only as long as the round's deadline allows.
Every answer is fenced: the log refuses it once the round is closed, so it does not matter that this process may learn of that too late.
What is to be answered, given up and removed is decided in `tasks`; this module only carries it out, and doing so twice does no harm.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from structlog.contextvars import bound_contextvars

from fedplane.collaborator.pool import AppPool, WarmApp
from fedplane.collaborator.tasks import GiveUp, Respond, Retire, unless_closed
from fedplane.collaborator.transfers import check_update, fetch, insist, remove, upload
from fedplane.runtime.errors import AppFailed, BadInput, BusError, BusFull, Corrupt, Denied, Unreachable
from fedplane.runtime.ports import Bus
from fedplane.runtime.telemetry import span
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Contributed, Declined, Evaluated, Invited
from fedplane.schemas.layout import BadLayout
from fedplane.schemas.models import Task
from fedplane.schemas.resources import APP_ANNOTATION

__all__ = ["Training"]

Answered = Contributed | Evaluated | Declined

ANSWERING_SHARE = 0.2
ANSWERING_SECONDS_MAX = 10.0
"""Of the time until the deadline, at most that much is kept for sending the update, or for stopping an app that hangs and saying so."""

GRACE_SECONDS = 10.0
"""How long after its deadline a round may keep us: the app is stopped at the deadline, and why it was not done is still to be said.
Stopping takes a few seconds at most.
"""

TEXT_CHARACTERS_MAX = 8_000
"""Of a message its beginning, of what a failed app printed its end: a long traceback fits, and a thousand such facts are 8 MB of log."""

REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (BadInput, "bad-input", "the invitation cannot be answered"),
    (Corrupt, "model-unreadable", "the model cannot be read from the bus"),
    (BadLayout, "model-unreadable", "the model has no layout that can be compared"),
    (BusFull, "bus-full", "the bus has no room for the update; give its server more storage, or purge runs that have ended"),
    (Denied, "denied", "the bus does not let this cluster read the model or send its update; check the cluster's permissions"),
    (BusError, "bus-failed", "the bus does not do what is needed to answer"),
    (OSError, "disk-failed", "this cluster's work directory cannot be used; free space on its disk or set FEDPLANE_WORKDIR"),
)
"""What is said of a failure that is not the app's own, by the first kind that fits: a word for a machine, and how the message begins."""


class Training:
    """The shell of one collaborator."""

    def __init__(
        self,
        bus: Bus,
        apps: AppPool,
        *,
        workdir: Path,
        update_bytes_max: int,
        app: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._apps = apps
        self._workdir = workdir
        self._update_bytes_max = update_bytes_max
        self._app = app
        self._clock = clock
        self._under_way: dict[tuple[str, int], asyncio.Timeout] = {}

    async def perform(self, effect: object) -> None:
        """Carry out what was decided."""
        match effect:
            case Respond(invited, traceparent):
                await self._respond(invited, traceparent)
            case GiveUp(run, before):
                self._give_up(run, before)
            case Retire(run):
                self._give_up(run)
                await self._apps.retire(run)
                remove(self._workdir / run)

    def _give_up(self, run: str, before: int | None = None) -> None:
        for under_way, scope in self._under_way.items():
            if under_way[0] == run and (before is None or under_way[1] < before) and not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())

    async def _respond(self, invited: Invited, traceparent: str | None) -> None:
        round_ = (invited.run, invited.round)
        with bound_contextvars(run=invited.run, round=invited.round, task=str(invited.task)):
            try:
                async with asyncio.timeout(self._seconds_until(invited.deadline) + GRACE_SECONDS) as scope:
                    self._under_way[round_] = scope
                    try:
                        answer, trace = await self._answer(invited, traceparent)
                    finally:
                        self._under_way.pop(round_, None)  # from here on the log's fence says whether the answer counts
                    await self._state(answer, trace)
            except TimeoutError:
                if not scope.expired():
                    raise
                structlog.get_logger().info("given up", why="the round is over")

    async def _answer(self, invited: Invited, traceparent: str | None) -> tuple[Answered, str | None]:
        home = self._workdir / invited.run
        directory = home / f"round-{invited.round}"
        try:
            own = _made(home / "app")
            async with self._apps.lend(invited.run, invited.framework, self._app_of(invited), own) as app:
                try:
                    return await self._work(app, invited, home, directory, traceparent)
                finally:
                    remove(directory)
        except AppFailed as failure:
            return self._declined(invited, failure.reason, str(failure), failure.detail), traceparent
        except tuple(kind for kind, _, _ in REASONS) as failure:
            reason, said = next((reason, said) for kind, reason, said in REASONS if isinstance(failure, kind))
            return self._declined(invited, reason, f"{said}: {failure}"), traceparent

    async def _work(
        self, app: WarmApp, invited: Invited, home: Path, directory: Path, traceparent: str | None
    ) -> tuple[Answered, str | None]:
        about: dict[str, str | int] = {"fedplane.run": invited.run, "fedplane.round": invited.round, "fedplane.cluster": invited.cluster}
        model = None
        if invited.model is not None:
            with span("download model", parent=traceparent, attributes={**about, "fedplane.bytes": invited.model.bytes}):
                model = await fetch(self._bus.bulk, invited.model, home / "model")
        _lay_out(directory, invited, model)
        with span(str(invited.task), parent=traceparent, attributes={**about, "fedplane.framework": invited.framework}) as asked:
            answer = await app.ask(directory, _working_seconds(self._seconds_until(invited.deadline)))
        whose = {"run": invited.run, "round": invited.round, "cluster": invited.cluster}
        if invited.task is Task.EVALUATE:
            return Evaluated(**whose, at=self._clock(), weight=answer.weight, metrics=answer.metrics), asked.traceparent
        update = check_update(directory / "update.safetensors", model, self._update_bytes_max)
        with span("upload update", parent=traceparent, attributes={**about, "fedplane.bytes": update.bytes}) as sent:
            stored = await insist(partial(upload, self._bus.bulk, update, invited))
        contributed = Contributed(
            **whose, at=self._clock(), weight=answer.weight, metrics=answer.metrics, configuration=answer.configuration,
            attempt=stored.attempt, layout=stored.layout, shards=stored.shards,
        )  # fmt: skip
        return contributed, sent.traceparent

    def _seconds_until(self, deadline: datetime) -> float:
        return (deadline - self._clock()).total_seconds()

    def _app_of(self, invited: Invited) -> Path:
        if self._app is not None:
            return self._app
        if not invited.app:
            raise BadInput(f"neither the run nor this cluster says where the app is; set FEDPLANE_APP, or the annotation {APP_ANNOTATION}")
        return Path(invited.app)

    def _declined(self, invited: Invited | Answered, reason: str, message: str, detail: str = "") -> Declined:
        texts = {"reason": reason, "message": message[:TEXT_CHARACTERS_MAX], "detail": detail[-TEXT_CHARACTERS_MAX:]}
        written = {name: text.encode(errors="replace").decode() for name, text in texts.items()}  # an app may print what is no text
        return Declined(run=invited.run, round=invited.round, cluster=invited.cluster, at=self._clock(), **written)

    async def _state(self, answer: Answered, traceparent: str | None) -> None:
        logger = structlog.get_logger(answer=type(answer).__name__)
        fence = unless_closed(answer.run, answer.round)
        state = partial(self._bus.log.state, fence=fence, traceparent=traceparent)
        try:
            outcome = await insist(partial(state, answer), on=(Unreachable, BusFull))
        except Unreadable as error:
            await self._state(self._declined(answer, "bad-answer", f"the answer cannot be stated: {error}"), traceparent)
        except BusError as error:
            logger.error("not answered", why=str(error))
        else:
            logger.info("answered" if outcome.mine else "answered already, or too late")


def _working_seconds(left_seconds: float) -> float:
    """How much of the time that is left the app may take: what remains is for the answer to arrive before the round is closed."""
    return left_seconds - min(left_seconds * ANSWERING_SHARE, ANSWERING_SECONDS_MAX)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lay_out(directory: Path, invited: Invited, model: Path | None) -> None:
    """Put the app's question into a fresh directory; what the app finds there is described in `frameworks`."""
    if model is None and invited.task is not Task.INITIALIZE:
        raise BadInput(f"it asks to {invited.task}, and names no model")
    remove(directory)
    _made(directory)
    if model is not None:
        (directory / "model.safetensors").hardlink_to(model)
    told = {"task", "run", "round", "training_round", "cluster", "position", "clusters", "data", "configuration", "run_configuration"}
    (directory / "invitation.json").write_text(json.dumps(invited.model_dump(mode="json", include=told)))
