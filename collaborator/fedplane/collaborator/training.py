"""Answering invitations: have the work done, send the update, state the answer in the round that wants it.

Whatever goes wrong on the way is an answer as well, `declined` with a reason, and the round need not wait for its deadline to learn it.
Only a bus that does not answer is asked again, and only as long as the deadline allows.
Every answer is fenced: the log refuses it once the round is closed, so it does not matter that this process may learn of that too late.

Most questions are answered in the round that asks them.
A question that may be carried is worked on after its round, and answered in whichever later round carries it.
That work is in this process and on its disk only. When it is lost, the question of the round that would have carried it is answered.
A masked round is answered in steps, which `masking` takes; what it needs is loaded only then.
What is to be answered, given up and removed is decided in `tasks`; this module only carries it out, and doing so twice does no harm.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from structlog.contextvars import bound_contextvars

from fedplane.collaborator.errands import Errand
from fedplane.collaborator.pool import AppPool
from fedplane.collaborator.settings import Papers
from fedplane.collaborator.tasks import GiveUp, Inform, Respond, Retire, unless_closed
from fedplane.collaborator.transfers import insist, upload
from fedplane.collaborator.work import FAILURES, SECRETS_LOST, Done, Undone, Worker, about, failed
from fedplane.runtime.errors import BusError, BusFull, Unreachable
from fedplane.runtime.ports import Bus
from fedplane.runtime.telemetry import span
from fedplane.schemas.envelope import Unreadable
from fedplane.schemas.facts import Contributed, Declined, Evaluated, Invited
from fedplane.schemas.models import Task

__all__ = ["Training"]

Answered = Contributed | Evaluated | Declined

TEXT_CHARACTERS_MAX = 8_000
"""Of a message its beginning, of what a failed app printed its end: a long traceback fits, and a thousand such facts are 8 MB of log."""

LOST = Undone(
    "work-lost",
    "the work that this round carries was lost, as when the collaborator is restarted, and what was begun instead cannot count here; "
    "this cluster can be asked anew",
)
"""Else a cluster that needs several rounds would begin anew in each round that carries what it has lost, and never finish."""


NOT_MASKED = Undone(
    "not-masked",
    "this cluster sends updates only with masks on them (FEDPLANE_MASKED_ONLY), and this round wants it without; "
    "ask for spec.privacy.secureAggregation",
)
"""A hub that wants to look at an update could ask for one without masks, so that a cluster has to be able to refuse."""


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
        papers: Papers | None = None,
        masked_only: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._papers = papers
        self._masked_only = masked_only
        self._worker = Worker(bus.bulk, apps, workdir=workdir, update_bytes_max=update_bytes_max, app=app, clock=clock)
        self._clock = clock
        self._under_way: dict[tuple[str, int], Errand] = {}

    async def perform(self, effect: object) -> None:
        """Carry out what was decided."""
        match effect:
            case Respond(invited, traceparent, is_keyed):
                with bound_contextvars(run=invited.run, round=invited.round, task=str(invited.task)):
                    await (self._state_lost(invited, traceparent) if is_keyed else self._respond(invited, traceparent))
            case Inform(step):
                if errand := self._under_way.get((step.run, step.round)):
                    errand.hear(step)
            case GiveUp(run, before, carried):
                for (of, question), errand in self._under_way.items():
                    if of == run and question < (before if carried is None else carried):
                        errand.give_up()
                    elif of == run:
                        errand.unwant(before)
            case Retire(run):
                for (of, _), errand in self._under_way.items():
                    if of == run:
                        errand.give_up()
                await self._worker.retire(run)

    async def _respond(self, invited: Invited, traceparent: str | None) -> None:
        if self._masked_only and invited.masking is None and invited.task in (Task.TRAIN, Task.REPLY):
            await self._state(_declined(invited, NOT_MASKED, self._clock()), traceparent)
            return
        carried = self._carried(invited)
        if carried is None:
            await self._undertake(invited, traceparent)
        elif carried.question.round == invited.carries:
            carried.want(invited, traceparent)  # it is answered by whoever works on it
        else:
            carried.give_up()
            await self._state(_declined(invited, LOST, self._clock()), traceparent)

    def _carried(self, invited: Invited) -> Errand | None:
        """The work that an invitation carries, or what was begun in place of it; None if there is none of either."""
        since = invited.round if invited.carries is None else invited.carries
        late = (errand for (run, round_), errand in self._under_way.items() if run == invited.run and since <= round_ < invited.round)
        return next((errand for errand in late if not errand.given_up), None)

    async def _undertake(self, invited: Invited, traceparent: str | None) -> None:
        try:
            async with asyncio.timeout(None) as scope:
                errand = self._under_way[invited.run, invited.round] = Errand(invited, scope, self._clock)
                errand.want(invited, traceparent)
                try:
                    await self._carry_out(errand, traceparent)
                finally:
                    del self._under_way[invited.run, invited.round]
                    self._worker.clean(invited)
        except TimeoutError:
            if not scope.expired():
                raise
            structlog.get_logger().info("given up", why="the round is over")

    async def _carry_out(self, errand: Errand, traceparent: str | None) -> None:
        outcome = await self._worker.work(errand.question, traceparent)
        if errand.question.masking is not None and isinstance(outcome, Done) and outcome.model is not None:
            await self._mask(errand, outcome, traceparent)
            return
        while not errand.given_up:
            invited, trace = await errand.wanted()
            answer = await self._answer(errand, outcome, invited, trace)
            if answer is not None:
                async with errand.stating():
                    settled = await self._state(*answer)
                if settled or errand.question.carried_until is None:
                    return
            errand.unwant(invited.round + 1)

    async def _mask(self, errand: Errand, done: Done, traceparent: str | None) -> None:
        from fedplane.collaborator.masking import MaskedRound  # noqa: PLC0415 -- numpy and cryptography, 40 MB: for those whose runs mask

        undone = await MaskedRound(self._bus, errand, done, self._papers, self._clock, traceparent).take_part()
        if undone is not None:
            async with errand.stating():
                await self._state(_declined(errand.question, undone, self._clock()), traceparent)

    async def _state_lost(self, invited: Invited, traceparent: str | None) -> None:
        """Another process of this cluster has said its keys. Unless it is there all the same, nobody can answer any more."""
        if (invited.run, invited.round) not in self._under_way:
            await self._state(_declined(invited, SECRETS_LOST, self._clock()), traceparent)

    async def _answer(
        self, errand: Errand, outcome: Done | Undone, invited: Invited, traceparent: str | None
    ) -> tuple[Answered, str | None] | None:
        """The answer in the round that wants it, and its trace; None if that round ends before the update is sent."""
        if isinstance(outcome, Undone):
            return _declined(invited, outcome, self._clock()), traceparent
        weight = 1.0 if invited.hides_weight else outcome.answer.weight
        answer, whose = outcome.answer, {"run": invited.run, "round": invited.round, "cluster": invited.cluster}
        if outcome.update is None:
            return Evaluated(**whose, at=self._clock(), weight=weight, metrics=answer.metrics), outcome.traceparent
        try:
            async with errand.sending() as scope:
                with span(
                    "upload update", parent=traceparent, attributes={**about(invited), "fedplane.bytes": outcome.update.bytes}
                ) as sent:
                    stored = await insist(partial(upload, self._bus.bulk, outcome.update, invited))
        except TimeoutError:
            if not scope.expired():
                raise
            structlog.get_logger().info("kept for a later round", why="the round was over before the update was sent")
            return None
        except FAILURES as failure:
            return _declined(invited, failed(failure), self._clock()), traceparent
        contributed = Contributed(
            **whose, at=self._clock(), weight=weight, metrics=answer.metrics, configuration=answer.configuration,
            attempt=stored.attempt, layout=stored.layout, shards=stored.shards,
            origin=None if errand.question.round == invited.round else errand.question.round,
        )  # fmt: skip
        return contributed, sent.traceparent

    async def _state(self, answer: Answered, traceparent: str | None) -> bool:
        """Whether nothing more can be said in a later round either: because it is said, or because it cannot be."""
        logger = structlog.get_logger(answer=type(answer).__name__, round=answer.round)
        fence = unless_closed(answer.run, answer.round)
        state = partial(self._bus.log.state, fence=fence, traceparent=traceparent)
        try:
            outcome = await insist(partial(state, answer), on=(Unreachable, BusFull))
        except Unreadable as error:
            unreadable = Undone("bad-answer", f"the answer cannot be stated: {error}")
            return await self._state(_declined(answer, unreadable, self._clock()), traceparent)
        except BusError as error:
            logger.error("not answered", why=str(error))
            return True
        logger.info("answered" if outcome.mine else "answered already, or too late")
        return outcome.record is not None


def _declined(to: Invited | Answered, outcome: Undone, now: datetime) -> Declined:
    texts = {
        "reason": outcome.reason,
        "message": outcome.message[:TEXT_CHARACTERS_MAX],
        "detail": outcome.detail[-TEXT_CHARACTERS_MAX:],
    }
    written = {name: text.encode(errors="replace").decode() for name, text in texts.items()}  # an app may print what is no text
    return Declined(run=to.run, round=to.round, cluster=to.cluster, at=now, **written)
