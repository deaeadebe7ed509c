"""What `spec.rounds` means: whom a round asks, how many answers it needs, which model is the best, and when a run has had enough rounds.

Each policy is a function of the resource and of what the log says of the run.
So replicas agree without talking, and a fresh one agrees with those before it; chance is no exception, for a sample is an order by hash.
When a round closes is `deciding`'s business, and what becomes of the run is `runs`'.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedplane.aggregator import local_noise
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import ALL_ROUNDS_DONE, Aggregated
from fedplane.schemas.models import Metrics, Model, Task
from fedplane.schemas.resources import TREES_FRAMEWORK, RoundPolicy, Spec

__all__ = ["REFUSALS_MAX", "Best", "check", "choose", "end", "judge", "kept", "left_out", "minimum"]

REFUSALS_MAX = 3
"""In so many rounds of a run a cluster may be refused before it is quarantined. Once may be bad luck; each time costs a round."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best model so far by the metric that `spec.rounds.stop` names, and what was measured of it."""

    value: float
    training_round: int
    model: Model
    metrics: Metrics


def check(spec: Spec, *, counts_late: bool = True, appends: bool = False) -> None:
    """Raises BadInput with the first combination of fields that cannot work.

    `counts_late` is whether the strategy counts late updates, `appends` whether it appends updates to the model.
    """
    if spec.rounds.carry and not counts_late:
        raise BadInput(f"spec.rounds.carry: {spec.strategy.name} counts no update that is late")
    if spec.framework == TREES_FRAMEWORK and not appends:
        raise BadInput(f"spec.strategy.name: the trees of {spec.framework} cannot go by {spec.strategy.name}; name the strategy append")
    for contradiction in _contradictions(spec):
        raise BadInput(contradiction)


def _contradictions(spec: Spec) -> Iterator[str]:
    rounds, needed, available = spec.rounds, minimum(Task.TRAIN, spec), spec.server.min_available_clients
    whence = "spec.server.minAvailableClients, without a spec.rounds.quorum" if rounds.quorum is None else "spec.rounds.quorum"
    if needed > available:
        yield f"spec.rounds.quorum: {needed} answers are needed of {available} clusters or more; raise spec.server.minAvailableClients"
    if rounds.invite is not None and rounds.invite < needed:
        yield f"spec.rounds.invite: {rounds.invite} clusters cannot give the {needed} answers that are needed by {whence}"
    if rounds.close_at is not None and rounds.close_at < needed:
        yield f"spec.rounds.closeAt: {rounds.close_at} contributions are fewer than the {needed} that are needed by {whence}"
    if rounds.close_at is not None and rounds.invite is not None and rounds.close_at > rounds.invite:
        yield f"spec.rounds.closeAt: {rounds.close_at} contributions cannot come from the {rounds.invite} clusters of spec.rounds.invite"
    yield from local_noise.contradictions(spec)
    if rounds.carry and spec.server.rounds == rounds.attempts == 1:
        yield "spec.rounds.carry: with one training round and one attempt there is no later round in which an update could count"
    if rounds.evaluate_on is not None and not rounds.evaluate:
        yield "spec.rounds.evaluateOn: no cluster evaluates when spec.rounds.evaluate is false"
    if rounds.stop is None and rounds.keep == "best":
        yield "spec.rounds.keep: the best model is the one with the best spec.rounds.stop.metric, and there is no spec.rounds.stop"
    if rounds.stop is not None and rounds.stop.target is None and rounds.stop.patience is None and rounds.keep == "last":
        yield "spec.rounds.stop: has neither target nor patience, so it stops nothing; only with spec.rounds.keep 'best' has it a use"


def minimum(task: Task, spec: Spec) -> int:
    """How many answers a round needs to have a result."""
    if task is not Task.TRAIN:
        return 1
    return spec.server.min_available_clients if spec.rounds.quorum is None else spec.rounds.quorum


def choose(
    task: Task, policy: RoundPolicy, able: Sequence[str], run: str, round_: int, failures: int,
    busy: Collection[str] = (), overdue: Collection[str] = (),
) -> tuple[str, ...]:  # fmt: skip
    """The clusters that a round asks, by name. Those that are `able` come the best score first, and there is at least one.
    Some of them may be `busy` with the question of an earlier round, and some of these `overdue`.

    One cluster initializes; should it fail, the next one does.
    Of the others a sample is drawn, without replacement, if the resource asks for one.
    The hash of everything that identifies a draw stands for chance, so each cluster is drawn equally often and in no order of its own.
    A repeated training round has another number on the log, so it draws others.

    A training round asks all that are busy, for they are at work anyway, and they take the places of as many others.
    Not so those that are overdue, or anybody when it is repeated: whoever was waited for in vain may never answer.
    An evaluation asks those that are idle, as long as there are any.
    """
    if task is Task.INITIALIZE:
        return (able[failures % len(able)],)

    def lot(cluster: str) -> bytes:
        return hashlib.sha256(f"{policy.seed}/{run}/{round_}/{cluster}".encode()).digest()

    idle = sorted((cluster for cluster in able if cluster not in busy), key=lot)
    if task is Task.EVALUATE:
        return tuple(sorted((idle or sorted(able, key=lot))[: policy.evaluate_on]))
    taken = 0 if failures else len(busy) - len(overdue)
    places = None if policy.invite is None else max(policy.invite - taken, 0)
    return tuple(sorted([*busy, *idle[:places]]))


def left_out(clusters: Iterable[str], faulty: frozenset[str], refusals: Mapping[str, int]) -> dict[str, str]:
    """Which of the clusters are not asked because of what they contributed before, and why."""
    reasons = {}
    for cluster in sorted(clusters):
        if refusals.get(cluster, 0) >= REFUSALS_MAX:
            reasons[cluster] = f"quarantined: refused in {refusals[cluster]} rounds"
        elif cluster in faulty:
            reasons[cluster] = "faulty in an earlier attempt"
    return reasons


def judge(best: Best | None, policy: RoundPolicy, result: Aggregated, model: Model | None, metrics: Metrics) -> Best | None:
    """The best model after a round has its result: the one it is about, if the metric has improved.

    Evaluation judges if there is any; else what clusters reported while they trained has to do.
    `metrics` are all that was measured of the model.
    """
    stop, judging = policy.stop, Task.EVALUATE if policy.evaluate else Task.TRAIN
    if stop is None or model is None or result.task is not judging or stop.metric not in result.metrics:
        return best
    value = result.metrics[stop.metric]
    if best is None or (value > best.value if stop.mode == "max" else value < best.value):
        return Best(value, result.training_round, model, metrics)
    return best


def kept(policy: RoundPolicy, best: Best | None) -> Best | None:
    """The model that the run ends with instead of the last one; None if it is the last one."""
    return best if policy.keep == "best" else None


def end(spec: Spec, trained: int, best: Best | None) -> str | None:
    """Why no training round follows so many that are done and judged; None if one does."""
    stop, done = spec.rounds.stop, trained >= spec.server.rounds
    if stop is None:
        return ALL_ROUNDS_DONE if done else None
    if best is None:  # most likely the app has no such metric, and whoever asked for it should hear of that
        given_up = stop.patience is not None and trained >= stop.patience
        return f"{stop.metric} was never measured, in {_rounds(trained)}" if done or given_up else None
    if stop.target is not None and (best.value >= stop.target if stop.mode == "max" else best.value <= stop.target):
        return f"{stop.metric} reached {stop.target:g}"
    if done:
        return ALL_ROUNDS_DONE
    if stop.patience is not None and trained - best.training_round >= stop.patience:
        return f"{stop.metric} has not improved for {_rounds(stop.patience)}"
    return None


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"
