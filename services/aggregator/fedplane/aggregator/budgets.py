"""What the noise in a run's model costs, and what its budget leaves: `spec.privacy.differentialPrivacy`, central or distributed.

A resource says how much noise there is to be (noiseMultiplier), or what may be spent (epsilon), from which the noise follows: as much as
all training rounds need together. Whoever says both means that noise, and that the run is to end before it costs more.
Without an epsilon the bound is the largest that a resource may name, for beyond it there is nothing to promise.

A round costs as soon as anything of it may be known to those from whom it is to be kept, whether it then has a result or not:
if aggregators add the noise, when the first shard is folded; if clusters do, when they are asked to help to take the masks off.
For what they say may come after the round has failed, and tells the sum as well.
So a run whose rounds fail may end with fewer of them than it was to have. What the cost is, is computed in `fedplane.privacy.accounting`.
How updates are shortened is the business of `clipping`, and where noise comes from that of `noising`, or of the clusters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fedplane.aggregator.rounds import Round
from fedplane.aggregator.strategies.algebra import Strategy
from fedplane.privacy import accounting
from fedplane.privacy.accounting import Accountant, Unaccountable
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Opened
from fedplane.schemas.privacy import EPSILON_MAX, MULTIPLIER_MAX, CentralPrivacy, DistributedPrivacy
from fedplane.schemas.privacy_terms import Spent
from fedplane.schemas.resources import Spec

__all__ = ["Budget", "budget_of", "check", "costs", "exhausted", "spent"]

WHERE = "spec.privacy.differentialPrivacy"


@dataclass(frozen=True, slots=True)
class Budget:
    """The noise of one training round, and the epsilon that all of them may cost, for this delta and by this accountant."""

    multiplier: float
    epsilon: float
    delta: float
    accountant: Accountant

    def cost(self, rounds: int) -> float:
        """The epsilon of so many rounds."""
        return accounting.epsilon(self.multiplier, self.delta, rounds, self.accountant)


def budget_of(spec: Spec) -> Budget | None:
    """The run's budget; None if its model has no noise. Raises Unaccountable."""
    noise = _noise(spec)
    if noise is None:
        return None
    accountant: Accountant = noise.accountant if isinstance(noise, CentralPrivacy) else "rdp"
    multiplier, epsilon = noise.noise_multiplier, noise.epsilon or EPSILON_MAX
    if multiplier is None:
        multiplier = accounting.multiplier(epsilon, noise.delta, spec.server.rounds, accountant)
    return Budget(multiplier, epsilon, noise.delta, accountant)


def costs(state: Round) -> bool:
    """Whether the round has cost something, or may have."""
    masking = state.opened.masking
    if masking is not None and masking.deviation is not None:
        return state.closed is not None and state.closed.members is not None
    return state.opened.noise is not None and bool(state.folded)


def spent(spec: Spec, question: Opened, rounds: int) -> Spent | None:
    """What so many rounds have cost, of which this one is the last; None if it has no noise."""
    clip = question.noise.clip if question.noise else question.masking.norm_max if question.masking else None
    budget = budget_of(spec)
    if budget is None or clip is None:
        return None
    return Spent(
        epsilon=budget.cost(rounds), delta=budget.delta, rounds=rounds, multiplier=budget.multiplier, clip=clip,
        accountant=budget.accountant,
    )  # fmt: skip


def exhausted(spec: Spec, rounds: int) -> str | None:
    """Why no training round follows so many that have cost something; None if the budget has room for one."""
    budget = budget_of(spec)
    if budget is None or budget.cost(rounds + 1) <= budget.epsilon:
        return None
    said = f"{rounds} round{'' if rounds == 1 else 's'} cost epsilon {budget.cost(rounds):.4g} at delta {budget.delta:g}"
    return f"the privacy budget is spent: {said}, and another one would make it more than {budget.epsilon:g}"


def check(spec: Spec, strategy: Strategy, *, has_secret: bool) -> None:
    """Raises BadInput with the first combination of fields that cannot work.

    `has_secret` is whether this aggregator has a secret to draw noise from.
    """
    for contradiction in _contradictions(spec, strategy, has_secret):
        raise BadInput(contradiction)


def _contradictions(spec: Spec, strategy: Strategy, has_secret: bool) -> Iterator[str]:
    noise = _noise(spec)
    if isinstance(noise, CentralPrivacy):
        yield from _unbounded(spec, strategy)
        if not has_secret:
            said = f"{WHERE}.central: this aggregator has no secret to draw noise from"
            yield f"{said}; set FEDPLANE_NOISE_SECRET to a file with one, the same for all aggregators"
    if noise is not None:
        yield from _unaffordable(spec, noise, f"{WHERE}.{'central' if isinstance(noise, CentralPrivacy) else 'distributed'}")


def _unbounded(spec: Spec, strategy: Strategy) -> Iterator[str]:
    """Where a cluster's part in the result is not bounded by the length of its update."""
    if not strategy.sums:
        said = (
            f"spec.strategy.name: what {spec.strategy.name} makes of a cluster's update is not bounded by its length, so no noise hides it"
        )
        yield f"{said}; choose fedavg, fedavgm, fedprox, fedadagrad, fedadam or fedyogi, or leave {WHERE}.central out"
    if spec.rounds.carry:
        said = "spec.rounds.carry: an update that counts in a later round than it is of is not accounted for"
        yield f"{said}; leave it out, or {WHERE}.central"


def _unaffordable(spec: Spec, noise: CentralPrivacy | DistributedPrivacy, where: str) -> Iterator[str]:
    """Noise that promises nothing, and budgets for which there is no noise, or no round."""
    rounds = spec.server.rounds
    try:
        budget = budget_of(spec)
        assert budget is not None, "there is noise, so it has a budget"
        first, all_ = budget.cost(1), budget.cost(rounds)
    except Unaccountable as problem:
        yield f"{where}: {problem}"
        return
    said = f"{where}.epsilon: {budget.epsilon:g} at delta {budget.delta:g}"
    if budget.multiplier > MULTIPLIER_MAX:
        much = f"{rounds} rounds would take noise of {budget.multiplier:.2g} times the clip, of which no model survives the tenth"
        yield f"{said} cannot be kept: {much}; raise it, or ask for fewer rounds"
    elif noise.epsilon is None and all_ > budget.epsilon:
        yield f"{where}.noiseMultiplier: {budget.multiplier:g} promises nothing, epsilon would be more than {budget.epsilon:g}; raise it"
    elif first > budget.epsilon:
        one = f"with a noiseMultiplier of {budget.multiplier:g} the first round costs more ({first:.4g})"
        yield f"{said} cannot be kept: {one}; raise either of them, or leave noiseMultiplier out"


def _noise(spec: Spec) -> CentralPrivacy | DistributedPrivacy | None:
    wanted = spec.privacy.differential_privacy
    return None if wanted is None else wanted.central or wanted.distributed
