"""What a masked round knows besides answers: keys, who holds whose shares, who masks with whom, and what can be recovered.

`rounds` has the phases and asks here what a fact of the exchange brings. The two facts that freeze what everybody must agree on,
`paired` and `bound`, are stated by aggregators, and so taken as they are; but on an open bus anybody may state them, so they have to fit.
What a cluster says has to fit as well, or it is refused with a sentence: its keys, the set of its shares, each share that it reveals.
The mathematics is in `fedplane.privacy`; what is due in each step is decided in `masking`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from fedplane.privacy import agreement
from fedplane.privacy.pairing import Pairing, question, raw
from fedplane.privacy.recovering import Shares, is_true, wanted_keys
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Bound, Entrusted, Invited, Keyed, Lapsed, Paired, Revealed, Shared
from fedplane.schemas.privacy_terms import Keyholder

__all__ = [
    "Exchange", "bindable", "evolve", "false_shares", "fits", "held", "holders_among", "is_recoverable", "keyholder",
    "unusable_keys", "unusable_shares",
]  # fmt: skip

_ANY_PRIVATE_KEY = bytes([64] * agreement.KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The steps so far. The dictionaries are by cluster, in the order of the log, and are never changed in place.

    `question` is the digest of what clusters were asked, and `pairing` is what follows from `paired`.
    Of what was revealed only true shares are here, and of each cluster only those of one secret.
    """

    question: str | None = None
    keyed: dict[str, Keyed] = field(default_factory=dict)
    paired: Paired | None = None
    pairing: Pairing | None = None
    shared: dict[str, Shared] = field(default_factory=dict)
    bound: Bound | None = None
    entrusted: frozenset[str] = frozenset()
    revealed: dict[str, Revealed] = field(default_factory=dict)
    lapsed: frozenset[str] = frozenset()

    @property
    def members(self) -> tuple[str, ...]:
        """Who takes part in the present step, by name: those that are paired, and once some are bound, these."""
        if self.bound is not None:
            return self.bound.members
        return self.pairing.members if self.pairing is not None else ()


def fits(exchange: Exchange, fact: Paired | Bound) -> bool:
    """Whether the fact is one that an aggregator could have stated of what is known."""
    names = tuple(member.cluster for member in fact.members) if isinstance(fact, Paired) else fact.members
    if not names or names != tuple(sorted(set(names))):
        return False
    if isinstance(fact, Bound):
        return set(names) <= exchange.shared.keys()
    ours = all(member == keyholder(exchange.keyed[member.cluster]) for member in fact.members if member.cluster in exchange.keyed)
    return ours and set(names) <= exchange.keyed.keys() and _pairing(fact) is not None


def evolve(exchange: Exchange, fact: Invited | Keyed | Paired | Shared | Bound | Entrusted | Revealed | Lapsed) -> Exchange:
    """The exchange after a fact that fits, of somebody whose turn it is."""
    match fact:
        case Invited():
            return exchange if exchange.question else replace(exchange, question=question(fact))
        case Keyed():
            return replace(exchange, keyed={**exchange.keyed, fact.cluster: fact})
        case Paired():
            return replace(exchange, paired=fact, pairing=_pairing(fact))
        case Shared():
            return replace(exchange, shared={**exchange.shared, fact.cluster: fact})
        case Bound():
            return replace(exchange, bound=fact)
        case Entrusted():
            return replace(exchange, entrusted=exchange.entrusted | {fact.cluster})
        case Revealed():
            return replace(exchange, revealed={**exchange.revealed, fact.cluster: fact})
        case Lapsed():
            return replace(exchange, lapsed=exchange.lapsed | {fact.step})


def keyholder(keyed: Keyed) -> Keyholder:
    """What the others are told of a cluster that has said its keys."""
    return Keyholder(
        cluster=keyed.cluster, mask_key=keyed.mask_key, seal_key=keyed.seal_key, certificate=keyed.certificate, signature=keyed.signature,
        weight=keyed.weight,
    )  # fmt: skip


def unusable_keys(exchange: Exchange, keyed: Keyed, *, hidden: bool) -> str | None:
    """Why a cluster cannot take part with these keys; None if it can."""
    if hidden and keyed.weight != 1:
        return f"it says that it has {keyed.weight:g} examples, and the run hides such numbers: its collaborator has to say 1"
    try:
        for key in (keyed.mask_key, keyed.seal_key):
            agreement.shared_secret(_ANY_PRIVATE_KEY, raw(key), b"")
    except BadInput as error:
        return f"nobody can agree on a mask with it: {error}"
    for other in sorted(exchange.keyed):
        if raw(exchange.keyed[other].mask_key) == raw(keyed.mask_key):
            return f"its mask key is that of {other}, so with both of them others would put on masks that may cancel"
    return None


def unusable_shares(exchange: Exchange, shared: Shared) -> str | None:
    """Why a cluster's secrets are not in its neighbours' hands; None if they are."""
    assert exchange.pairing is not None, "who shares was paired"
    neighbours = set(exchange.pairing.neighbours[shared.cluster])
    if shared.sealed.keys() == neighbours and shared.commitments.keys() == {*neighbours, shared.cluster}:
        return None
    wrong = sorted((shared.sealed.keys() ^ neighbours) | (shared.commitments.keys() ^ {*neighbours, shared.cluster}))
    return f"its shares are not one for each of its {len(neighbours)} neighbours and itself: see {', '.join(wrong)}"


def bindable(exchange: Exchange, gone: Collection[str]) -> tuple[str, ...]:
    """Who can mask: whose shares are in and who is not gone, so that enough others of the same kind have shares of its secrets.

    Whoever is taken out leaves its neighbours with fewer, so this goes on until nobody is.
    """
    assert exchange.pairing is not None, "who shares was paired"
    left, threshold = {cluster for cluster in exchange.shared if cluster not in gone}, exchange.pairing.threshold
    while alone := {cluster for cluster in left if holders_among(exchange.pairing, cluster, left) < threshold}:
        left -= alone
    return tuple(sorted(left))


def holders_among(pairing: Pairing, cluster: str, some: Collection[str]) -> int:
    """How many of some clusters have a share of the cluster's secrets."""
    return sum(holder in some for holder in pairing.holders(cluster))


def false_shares(exchange: Exchange, revealed: Revealed, members: Collection[str]) -> tuple[Revealed, tuple[str, ...]]:
    """What counts of a cluster's shares, and whose secrets the others are of, which are not what their owners committed to.

    Shares of a secret that is not wanted do not count, true or false: nobody is to have both secrets of a cluster.
    """
    assert exchange.pairing is not None and exchange.bound is not None, "who reveals was bound"
    gone = wanted_keys(exchange.pairing, exchange.bound.members, members)
    counting, false = dict[str, dict[str, str]](seeds={}, keys={}), set[str]()
    for what, told, wanted, which in (("seeds", revealed.seeds, members, 0), ("keys", revealed.keys, gone, 1)):
        for owner in sorted(told.keys() & set(wanted)):
            committed = exchange.shared[owner].commitments.get(revealed.cluster)
            if committed is not None and is_true(told[owner], committed[which]):
                counting[what][owner] = told[owner]
            else:
                false.add(owner)
    return revealed.model_copy(update=counting), tuple(sorted(false))


def held(exchange: Exchange) -> tuple[Shares, Shares]:
    """The shares that are known of seeds and of mask keys, by owner and holder."""
    seeds, keys = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    for holder, revealed in exchange.revealed.items():
        for told, known in ((revealed.seeds, seeds), (revealed.keys, keys)):
            for owner, share in told.items():
                known.setdefault(owner, {})[holder] = share
    return seeds, keys


def is_recoverable(exchange: Exchange, members: Collection[str]) -> bool:
    """Whether enough is known to take the masks off the sum of the members' updates."""
    if exchange.pairing is None or exchange.bound is None:
        return False
    seeds, keys = held(exchange)
    wanted = [seeds.get(owner, {}) for owner in members]
    wanted += [keys.get(owner, {}) for owner in wanted_keys(exchange.pairing, exchange.bound.members, members)]
    return all(len(shares) >= exchange.pairing.threshold for shares in wanted)


def _pairing(fact: Paired) -> Pairing | None:
    try:
        return Pairing.of(fact)
    except BadInput:
        return None  # nobody of ours states such a graph
