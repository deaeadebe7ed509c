"""What cannot be had together with `spec.privacy`, and why: said when the run is submitted, before anybody trains.

Masked updates are only ever added up, each times its number of examples. So a strategy that is such a sum goes with them,
whatever it makes of the result; one that has to look at single updates does not, for nobody can.
What depends on the model, its largest number for one, is found when the first training round is to be masked (`terms`).
"""

from collections.abc import Iterator

from fedplane.aggregator import policies, terms
from fedplane.aggregator.strategies.algebra import Strategy
from fedplane.privacy import graph
from fedplane.privacy.graph import MEMBERS_MIN
from fedplane.runtime.errors import BadInput
from fedplane.schemas.models import Task
from fedplane.schemas.privacy import MASKED_MAX, DistributedPrivacy, SecureAggregation
from fedplane.schemas.resources import APP_STRATEGY, TREES_FRAMEWORK, Spec

__all__ = ["check"]

SECURE = "spec.privacy.secureAggregation"
NOISE = "spec.privacy.differentialPrivacy"


def check(spec: Spec, strategy: Strategy) -> None:
    """Raises BadInput with the first combination of fields that cannot work."""
    for contradiction in _contradictions(spec, strategy):
        raise BadInput(contradiction)


def _contradictions(spec: Spec, strategy: Strategy) -> Iterator[str]:
    secure, noise = spec.privacy.secure_aggregation, spec.privacy.differential_privacy
    if secure is not None:
        yield from _not_sums(spec, strategy)
        yield from _too_few(spec, secure)
        most = spec.rounds.weight_max
        if secure.weights == "hidden" and most is None:
            yield f"{SECURE}.weights: what is hidden has to have a bound; set spec.rounds.weightMax to the most examples that may count"
        if secure.weights == "hidden" and most is not None and most < 1:
            yield f"spec.rounds.weightMax: clusters that hide how many examples they have say 1, which is more than {most:g}; raise it"
        if noise is not None and noise.central is not None:
            said = f"{NOISE}.central: the aggregators have to see each update to shorten it, and with {SECURE} they see none"
            yield f"{said}; let the clusters do it ({NOISE}.distributed)"
    if noise is not None and noise.distributed is not None:
        yield from _unprotected(spec, noise.distributed)
    yield from _unmaskable(spec)


def _not_sums(spec: Spec, strategy: Strategy) -> Iterator[str]:
    """What needs to know more than the sum of the updates."""
    name = spec.strategy.name
    if name == APP_STRATEGY:
        yield f"spec.strategy.name: with {SECURE} there are no single replies for the app's own server; choose fedavg, or leave that out"
    elif spec.framework == TREES_FRAMEWORK or strategy.appends:
        yield f"spec.strategy.name: {name} keeps each cluster's trees, and trees cannot be added up; leave {SECURE} out"
    elif not strategy.sums:
        said = f"spec.strategy.name: {name} has to look at each cluster's update, and with {SECURE} nobody sees more than their sum"
        yield f"{said}; choose fedavg, fedavgm, fedprox, fedadagrad, fedadam or fedyogi"
    if spec.rounds.carry:
        yield f"spec.rounds.carry: a mask is good for one round, so with {SECURE} no update counts in a later one; leave it out"


def _too_few(spec: Spec, secure: SecureAggregation) -> Iterator[str]:
    """Numbers of clusters with which masks cannot be put on, or cannot be taken off."""
    needed, whence = policies.minimum(Task.TRAIN, spec), "spec.rounds.quorum" if spec.rounds.quorum else "spec.server.minAvailableClients"
    if needed < MEMBERS_MIN:
        said = f"{whence}: {needed} is too few for {SECURE}, for in a sum of two each cluster sees the other one's update"
        yield f"{said}; ask for {MEMBERS_MIN} or more"
    if needed > MASKED_MAX:
        yield f"{whence}: {needed} clusters cannot mask with one another, {MASKED_MAX} can; ask for {MASKED_MAX} or fewer"
    if spec.rounds.invite is not None and spec.rounds.invite > MASKED_MAX:
        yield f"spec.rounds.invite: {spec.rounds.invite} clusters cannot mask with one another, {MASKED_MAX} can"
    try:
        terms.check_graph(secure, needed, max(needed, spec.rounds.invite or 0))
    except BadInput as problem:
        yield str(problem)


def _unprotected(spec: Spec, noise: DistributedPrivacy) -> Iterator[str]:
    """Noise that protects nobody."""
    needed = policies.minimum(Task.TRAIN, spec)
    if spec.privacy.secure_aggregation is None:
        said = f"{NOISE}.distributed: one cluster's part of the noise hides nothing, and without {SECURE} each update is seen"
        yield f"{said}; set that to {{}}, or let the aggregators add the noise ({NOISE}.central)"
    if noise.colluding >= needed:
        said = f"{NOISE}.distributed.colluding: {noise.colluding} may work with the hub of {needed} with which a round has a result"
        yield f"{said}, so nobody's noise would be left; raise spec.server.minAvailableClients or spec.rounds.quorum"
    elif (secure := spec.privacy.secure_aggregation) is not None:
        degree, threshold = graph.chosen(needed, secure.neighbours, secure.threshold)
        most = graph.colluders_withstood(needed, degree, threshold)
        if noise.colluding > most:
            said = f"{NOISE}.distributed.colluding: if {threshold} of {degree + 1} clusters can take masks off"
            yield f"{said}, at most {most} may work with the hub, not {noise.colluding}; raise {SECURE}.threshold, or ask for more clusters"


def _unmaskable(spec: Spec) -> Iterator[str]:
    """Bits that have no room for the sum of as many clusters as there may be, with their noise."""
    needed = policies.minimum(Task.TRAIN, spec)
    try:
        terms.check(spec, max(needed, spec.rounds.invite or 0), needed)
    except BadInput as problem:
        yield str(problem)
