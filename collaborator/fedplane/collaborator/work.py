"""Working on a question: fetch the model, let the app work, and see whether what it left can be used.

Whatever goes wrong is an outcome as well, with a reason; only a bus that does not answer is asked again.
An outcome is about the question and not about the round that asked: a later round may be told of it, when this one is over.
So nothing is sent here. The update stays on disk until whoever asked for the work says that it is done with it.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedplane.collaborator.apps import Answer
from fedplane.collaborator.bundles import unpacked
from fedplane.collaborator.fetching import fetch
from fedplane.collaborator.pool import AppPool, WarmApp
from fedplane.collaborator.transfers import Update, check_update, remove
from fedplane.runtime.errors import AppFailed, BadInput, BusError, BusFull, Corrupt, Denied
from fedplane.runtime.metrics import APP_DURATION
from fedplane.runtime.ports import Bulk
from fedplane.runtime.spans import Attributes
from fedplane.runtime.telemetry import Spanned, span, tell
from fedplane.schemas.bundles import Bundle
from fedplane.schemas.facts import Invited
from fedplane.schemas.layout import BadLayout
from fedplane.schemas.models import Task
from fedplane.schemas.privacy import LOCAL_FRAMEWORK
from fedplane.schemas.resources import APP_ANNOTATION

__all__ = ["FAILURES", "SECRETS_LOST", "Done", "Undone", "Worker", "about", "failed", "last_moment"]

ANSWERING_SHARE = 0.2
ANSWERING_SECONDS_MAX = 10.0
"""Of the time until the deadline, at most that much is kept for sending the update, or for stopping an app that hangs and saying so."""

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

FAILURES: tuple[type[Exception], ...] = (AppFailed, *(kind for kind, _, _ in REASONS))
"""What may go wrong with an answer and is one itself."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the app answered, its update on disk unless it was asked to evaluate, the trace in which it worked, and the model's file."""

    answer: Answer
    update: Update | None
    traceparent: str | None
    model: Path | None = None


@dataclass(frozen=True, slots=True)
class Undone:
    """Why there is no answer. `detail` has the app's last words."""

    reason: str
    message: str
    detail: str = ""


SECRETS_LOST = Undone(
    "secrets-lost",
    "this cluster has said its keys of the round by another process, as when the collaborator is restarted, and the secrets went with it; "
    "it can be asked anew",
)
"""They are nowhere but in memory. With new keys nobody could take the masks off."""


class Worker:
    """Where and with what this cluster works."""

    def __init__(
        self, bulk: Bulk, apps: AppPool, *, workdir: Path, update_bytes_max: int, app: Path | None, clock: Callable[[], datetime]
    ) -> None:
        self._bulk = bulk
        self._apps = apps
        self._workdir = workdir
        self._update_bytes_max = update_bytes_max
        self._app = app
        self._clock = clock

    async def work(self, invited: Invited, traceparent: str | None) -> Done | Undone:
        """The outcome of the question. The update in it lasts until `clean`."""
        try:
            own = _made(self._workdir / invited.run / "app")
            async with self._apps.lend(invited.run, invited.framework, await asyncio.to_thread(self._app_of, invited), own) as app:
                return await self._work(app, invited, traceparent)
        except FAILURES as failure:
            return failed(failure)

    def clean(self, invited: Invited) -> None:
        """Remove what was laid out and left behind for the question."""
        remove(self._directory(invited))

    async def retire(self, run: str) -> None:
        """End the run's app, and remove everything of the run."""
        await self._apps.retire(run)
        remove(self._workdir / run)

    async def _work(self, app: WarmApp, invited: Invited, traceparent: str | None) -> Done:
        directory, model = self._directory(invited), None
        if invited.model is not None:
            with span("download model", parent=traceparent, attributes={**about(invited), "fedplane.bytes": invited.model.bytes}):
                model = await fetch(self._bulk, invited.model, directory.parent / "model")
        _lay_out(directory, invited, model)
        with span(str(invited.task), parent=traceparent, attributes={**about(invited), "fedplane.framework": invited.framework}) as asked:
            answer = await self._ask(app, directory, invited, asked)
        if invited.task is Task.EVALUATE:
            return Done(answer, None, asked.traceparent)
        # A reply may be anything, the app's own server knowing what it wants; and what is appended to a model need not be like it.
        # What is masked is a change of the model in any case.
        like = None if invited.masking is None and (invited.task is Task.REPLY or invited.appends) else model
        return Done(answer, check_update(directory / "update.safetensors", like, self._update_bytes_max), asked.traceparent, model)

    async def _ask(self, app: WarmApp, directory: Path, invited: Invited, asked: Spanned) -> Answer:
        """The app's answer. How long it took is told, whatever came of it."""
        seconds = _working_seconds((last_moment(invited) - self._clock()).total_seconds())
        of = {"fedplane.task": invited.task.value, "fedplane.cluster": invited.cluster}
        try:
            answer = await app.ask(directory, seconds)
        except AppFailed as failure:
            tell(APP_DURATION, asked.seconds, {**of, "error.type": failure.reason}, asked.traceparent)
            raise
        tell(APP_DURATION, asked.seconds, of, asked.traceparent)
        return answer

    def _directory(self, invited: Invited) -> Path:
        return self._workdir / invited.run / f"round-{invited.round}"

    def _app_of(self, invited: Invited) -> Path:
        named = invited.app if self._app is None else str(self._app)
        if not named:
            raise BadInput(f"neither the run nor this cluster says where the app is; set FEDPLANE_APP, or the annotation {APP_ANNOTATION}")
        bundle = Bundle.meant_by(named)
        return Path(named) if bundle is None else unpacked(bundle, self._workdir / invited.run / "bundle")


def failed(failure: Exception) -> Undone:
    """What is said of one of `FAILURES`."""
    if isinstance(failure, AppFailed):
        return Undone(failure.reason, str(failure), failure.detail)
    reason, said = next((reason, said) for kind, reason, said in REASONS if isinstance(failure, kind))
    return Undone(reason, f"{said}: {failure}")


def about(invited: Invited) -> Attributes:
    """What every span of an answer says."""
    return {"fedplane.run": invited.run, "fedplane.round": invited.round, "fedplane.cluster": invited.cluster}


def last_moment(invited: Invited) -> datetime:
    """Until when work on the question is of use."""
    return invited.carried_until or invited.deadline


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
    if invited.local_privacy is not None and invited.framework != LOCAL_FRAMEWORK:  # the others' runners would train without noise
        raise BadInput(f"it asks for local differential privacy, which apps of {invited.framework} do not have; name {LOCAL_FRAMEWORK}")
    remove(directory)
    _made(directory)
    if model is not None:
        (directory / "model.safetensors").hardlink_to(model)
    told = {"task", "run", "round", "training_round", "cluster", "position", "clusters", "data", "configuration", "run_configuration"}
    if invited.task is Task.REPLY:
        told |= {"instruction", "fold"}
    if invited.appends:
        told |= {"appends"}
    if invited.local_privacy is not None:
        told |= {"local_privacy"}
    (directory / "invitation.json").write_text(json.dumps(invited.model_dump(mode="json", include=told)))
