"""What should be done about a round, phase by phase: the machine's outputs, as `rounds` is its transitions.

Every function looks at the round as it is and names everything that is due, again and again until the log shows it done.
"""

from collections.abc import Iterator
from datetime import datetime

from fedplane.aggregator import budgets, local_noise, strategies
from fedplane.aggregator.accepting import SHARDS_MAX
from fedplane.aggregator.carrying import carried_until
from fedplane.aggregator.failing import excuses, failed
from fedplane.aggregator.masking import about_steps, pair
from fedplane.aggregator.rounds import ANSWERABLE, Phase, Round, weighted_mean
from fedplane.runtime.ports import Fence
from fedplane.runtime.replica import Action, Offer, Remind, State
from fedplane.schemas.facts import Aggregated, Closed, Expired, Invited, Rejected, RoundFailed
from fedplane.schemas.layout import HEADER_BYTES_MAX
from fedplane.schemas.models import Chosen, Configuration, Model, Task, model_digest
from fedplane.schemas.resources import APP_ANNOTATION, FederatedLearning, Spec, StrategySpec
from fedplane.schemas.subjects import work_on

__all__ = ["about_round", "close_cancelled", "shard_work"]


def about_round(
    state: Round, resource: FederatedLearning, participants: dict[str, Chosen], configuration: Configuration, now: datetime, costly: int = 0
) -> Iterator[Action]:
    """Everything that is due in a round of a run that goes on. `participants` are by name.

    `costly` is how many rounds before this one have cost some of the run's privacy.
    """
    yield from _reject(state, now)
    match state.phase:
        case Phase.COLLECTING | Phase.OVERDUE:
            yield from _invite(state, resource, participants, configuration, now)
            yield from _close(state, now)
        case Phase.SHARING | Phase.MASKING:
            yield from about_steps(state, now)
        case Phase.REVEALING if not state.is_foldable:
            yield from about_steps(state, now)
        case Phase.REVEALING | Phase.FOLDING:
            yield from _conclude(state, resource.spec, costly, now)


def close_cancelled(state: Round, now: datetime) -> Iterator[Action]:
    """What is due in a round of a run that was ended from outside: no answer may count any more."""
    if state.phase in ANSWERABLE:
        yield State(Closed(run=state.opened.run, round=state.opened.round, at=now, reason="the run was cancelled"))


def _reject(state: Round, now: datetime) -> Iterator[Action]:
    for cluster in sorted(state.unacceptable.keys() - state.rejected):
        yield State(
            Rejected(
                run=state.opened.run, round=state.opened.round, cluster=cluster, at=now,
                reason="unacceptable", message=state.unacceptable[cluster],
            )
        )  # fmt: skip


def _invite(
    state: Round, resource: FederatedLearning, participants: dict[str, Chosen], configuration: Configuration, now: datetime
) -> Iterator[Action]:
    asked = state.opened
    order = sorted(participants)
    instructions = {instruction.cluster: instruction for instruction in state.asked.instructions} if state.asked else {}
    for cluster in asked.clusters:
        if cluster not in state.invited:
            instruction = instructions.get(cluster)
            yield State(
                Invited(
                    run=asked.run, round=asked.round, cluster=cluster, at=now, task=asked.task, training_round=asked.training_round,
                    framework=resource.spec.framework, app=resource.metadata.annotations.get(APP_ANNOTATION, ""),
                    data=participants[cluster].data, configuration={**configuration, **strategies.make(resource.spec.strategy).tells},
                    run_configuration=resource.spec.config,
                    deadline=asked.deadline, shard_bytes=asked.shard_bytes, chunk_bytes=asked.chunk_bytes,
                    position=order.index(cluster), clusters=len(order),
                    model=state.asked.contents[instruction.content] if state.asked and instruction else asked.model,
                    instruction=instruction, fold=state.asked is not None and state.asked.fold, appends=asked.appends,
                    masking=asked.masking, carries=asked.carried.get(cluster), carried_until=carried_until(asked, resource.spec.rounds),
                    local_privacy=local_noise.terms(resource.spec, asked.task), hides_weight=_hides_weight(resource.spec),
                )
            )  # fmt: skip
    if state.phase is Phase.COLLECTING:
        yield Remind(Expired(run=asked.run, round=asked.round, at=asked.deadline), asked.deadline)


def _hides_weight(spec: Spec) -> bool:
    """Whether clusters keep to themselves how many examples they have, whatever they are asked: an evaluation would tell it as well."""
    secure = spec.privacy.secure_aggregation
    return secure is not None and secure.weights == "hidden"


def _close(state: Round, now: datetime) -> Iterator[Action]:
    reason = _reason_to_close(state)
    if reason and state.opened.masking is not None:
        yield pair(state, reason, now)
    elif reason:
        yield State(Closed(run=state.opened.run, round=state.opened.round, at=now, reason=reason))


def _reason_to_close(state: Round) -> str | None:
    """What reaches the log before `closed` counts as well, so there may be more contributions than were waited for."""
    if not state.unanswered:
        return "everyone answered"
    done = state.contributed if state.opened.masking is None else state.keyed
    if state.opened.close_at is not None and len(done) >= state.opened.close_at:
        return f"{len(done)} contributions are in" if state.opened.masking is None else f"{len(done)} clusters have said their keys"
    return "the deadline passed" if state.phase is Phase.OVERDUE else None


def _conclude(state: Round, spec: Spec, costly: int, now: datetime) -> Iterator[Action]:
    asked = state.opened
    answers = tuple(state.evaluated[c] for c in sorted(state.evaluated)) if asked.task is Task.EVALUATE else state.members
    if len(answers) < asked.minimum:
        message = f"{len(answers)} of {len(asked.clusters)} clusters answered, {asked.minimum} are needed{excuses(state)}"
        yield failed(state, "too-few", message, now)
        return
    if why := _too_large(state):
        yield failed(state, "too-large", why, now)
        return
    folds = state.asked.fold if state.asked else asked.task is not Task.EVALUATE
    due = list(shard_work(state, spec.strategy)) if folds else []
    if due:
        yield from due
        return
    if folds:
        answers = tuple(state.contributed[cluster] for cluster in state.folded[0].members)  # those that the strategy counts
    result = Aggregated(
        run=asked.run, round=asked.round, at=now, task=asked.task, training_round=asked.training_round,
        members=tuple(answer.cluster for answer in answers), weight=sum(answer.weight for answer in answers),
        metrics=weighted_mean(answers),
        model=_model(state) if folds else None, privacy=budgets.spent(spec, asked, costly + 1),
    )  # fmt: skip
    yield State(result, Fence(RoundFailed.pattern(run=asked.run, round=asked.round)))


def _too_large(state: Round) -> str | None:
    """Why the model cannot have the members' updates appended; None if it can, or none are."""
    if state.opened.model is None or not state.appends:
        return None
    if state.shards > SHARDS_MAX:
        said = f"with the updates appended the model has {state.shards} shards, and a fact has room for {SHARDS_MAX}"
        return f"{said}; larger shards make fewer (FEDPLANE_SHARD_BYTES), or ask for fewer rounds"
    layouts = state.opened.model.layout.bytes + sum(member.layout.bytes for member in state.members)
    if layouts > HEADER_BYTES_MAX:
        said = f"the layouts of the model and of the updates have {layouts} bytes together"
        return f"{said}, and a safetensors header may have {HEADER_BYTES_MAX}; ask for fewer rounds"
    return None


def shard_work(state: Round, spec: StrategySpec) -> Iterator[Offer]:
    """The shards that are still to be measured, if updates are compared or shortened, and then those that are to be folded."""
    asked, shards = state.opened, range(state.shards)
    if asked.noise is not None or (asked.task is Task.TRAIN and strategies.make(spec).compares):
        unmeasured = [shard for shard in shards if shard not in state.measured]
        if unmeasured:
            yield from (Offer(work_on("measure", asked.run, asked.round, shard)) for shard in unmeasured)
            return
    yield from (Offer(work_on("fold", asked.run, asked.round, shard)) for shard in shards if shard not in state.folded)


def _model(state: Round) -> Model:
    asked = state.opened
    shards = tuple(state.folded[shard].piece for shard in range(state.shards))
    layout = state.folded[0].layout
    assert layout is not None, "whoever folds shard 0 brings the layout with it"
    memory = tuple(piece for shard in range(state.shards) if (piece := state.folded[shard].memory))
    contents = tuple(found for shard in range(state.shards) if (found := state.folded[shard].contents))
    return Model(
        run=asked.run, round=asked.round, bytes=sum(piece.bytes for piece in shards), layout=layout, shards=shards,
        digest=model_digest(layout, shards), memory=memory, contents=contents if len(contents) == len(shards) else (),
    )  # fmt: skip
