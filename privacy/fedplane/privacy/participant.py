"""One cluster in one masked round: what it says and when, what it believes, and what it refuses.

The protocol is that of Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4), on the
sparse graph of Bell et al. 2020 ("Secure Single-Server Aggregation with (Poly)Logarithmic Overhead"). Its messages are facts on a log:

1. A cluster has trained. It makes two key pairs and a seed, and says the public keys (`keyed`). It hears who the members are (`paired`).
2. It cuts its seed and its mask key into shares, and seals one of each for every neighbour (`shared`). It hears whose are in (`entrusted`).
3. It adds to its integers the stream of its seed, and that of every bound neighbour's common key (`contributed`). These cancel in the sum.
4. It hears whose masked updates count (`closed`). For these it gives its shares of seeds, for those that dropped out its shares of
   mask keys (`revealed`), and forgets everything. With enough shares the masks that did not cancel are taken off the sum.

Each step is a value of its own, so no step can be taken before the one that it needs.

**What a hub learns.** Let h be the holders of a cluster's secrets (its neighbours and itself), t the threshold, and c how many holders tell
the hub everything. An update is hidden as long as its seed is, or one mask that it has in common with an honest neighbour.

- With c < t, colluding clusters know neither seed nor key by themselves: t - 1 shares say nothing about a secret.
- *Never both.* To know seed and mask key of one honest cluster takes t shares of each. Colluding clusters give both, an honest holder one
  of the two, whatever it is told: who counts and who dropped out are disjoint, and it answers once. So t - c honest holders have to be
  told one thing and as many others the other, of h - c. That needs 2(t - c) <= h - c, so it cannot be if **c <= 2t - h - 1**;
  with the degree h - 1 that is 2t - degree - 2. This is why t has to be more than half of h: else not even c = 0 is safe.
- *Never alone, if the log shows everybody the same.* `closed` is one fact. A cluster reveals only if t holders of its own secrets count,
  and all who count were bound with it. So it has masks in common with t - c - 1 honest clusters at least, whose keys nobody reveals, and
  the same holds for each of them. The hub learns sums of **t - c or more** honest clusters, which are 2 at least by the bound before.
  It learns one sum only, of all that count, if everybody is everybody's neighbour, or `graph` says that they cannot be cut apart.
- *Never alone, if the log lies.* A server that shows each cluster another `closed` may have all honest neighbours of one declared gone.
  That are t - c - 1 or more, and each of their keys takes shares of t - c honest holders. The h - c - 1 others give h - t each at most,
  since t holders of theirs count. With everybody everybody's neighbour that cannot be if **(t - c)(t - c - 1) > (h - c - 1)(h - t)**.
  `colluding_max` is the largest c for which this and the bound before hold. With fewer neighbours there is no such bound.

All of this is about changes of one and the same model, by clusters that were asked the same and told of the same members.
Masks and shares are bound to both (`pairing`): those of clusters that saw something else do not cancel, and cannot be opened.
Neighbourhoods are drawn by a digest of all keys, so whoever says the last key can try many; who is afraid of that asks for all neighbours.
Whose the keys are is said by signatures (`vouching`). On a bus without certificates, or with an authority that the hub commands,
the hub can invent clusters, and those count as colluding. The least numbers that a cluster insists on are those of its invitation.
That there are masks at all is the hub's word as well, unless the cluster was told to send nothing else (FEDPLANE_MASKED_ONLY).
Metrics are no part of all this, nor are public weights. And a sum tells something of its summands: against that there is noise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedplane.privacy import agreement, graph, shamir
from fedplane.privacy.agreement import KEY_BYTES
from fedplane.privacy.graph import MEMBERS_MIN
from fedplane.privacy.keystream import Mask
from fedplane.privacy.pairing import About, Pairing, commitment, pair_key, raw, self_key, subtracts, text
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Entrusted, Paired
from fedplane.schemas.privacy_terms import Commitments, Keyholder, MaskingTerms

__all__ = [
    "SECRETS_BYTES",
    "Member",
    "Participant",
    "Revelation",
    "Secrets",
    "Sharing",
    "Trustee",
    "Withdrawn",
    "colluding_max",
    "counted",
    "randomness_bytes",
]

SECRETS_BYTES = 3 * KEY_BYTES
"""Two private keys and a seed."""

LOOK = "; look at the hub's aggregator, and at spec.privacy.secureAggregation"
"""What to do about a hub that does not keep to the protocol, if a person has to."""


class Withdrawn(BadInput):
    """The cluster takes no further part in the round. `reason` is one word for a machine; the message says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a cluster tells nobody, for one round: the private mask key, the private seal key, and the seed of the mask of its own."""

    mask: bytes = field(repr=False)
    seal: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @classmethod
    def of(cls, randomness: bytes) -> "Secrets":
        """Made of `SECRETS_BYTES` bytes of chance that are used for nothing else."""
        assert len(randomness) == SECRETS_BYTES, f"secrets are made of {SECRETS_BYTES} bytes"
        return cls(randomness[:KEY_BYTES], randomness[KEY_BYTES : 2 * KEY_BYTES], randomness[2 * KEY_BYTES :])


@dataclass(frozen=True, slots=True)
class Shares:
    """A holder's shares of one cluster's seed and of its mask key."""

    seed: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def commitments(self) -> Commitments:
        """By which they are known when they are revealed."""
        return commitment(self.seed), commitment(self.key)


@dataclass(frozen=True, slots=True)
class Participant:
    """A cluster that has trained, and knows nobody yet."""

    about: About
    cluster: str
    secrets: Secrets

    @property
    def mask_key(self) -> str:
        """The public mask key, as facts have it."""
        return text(agreement.public_of(self.secrets.mask))

    @property
    def seal_key(self) -> str:
        """The public seal key, as facts have it."""
        return text(agreement.public_of(self.secrets.seal))

    def pair(self, paired: Paired, terms: MaskingTerms, weight: float) -> "Member":
        """The cluster among the members, if they are such that its update is safe with them; `weight` is what it has said.

        Raises Withdrawn. Whether the keys are the members' own is for `vouching` to say.
        """
        names = [member.cluster for member in paired.members]
        if len(set(names)) != len(names):
            raise Withdrawn(
                "keys-replaced", "a cluster is named twice among the members; whoever runs the hub should look at its aggregator"
            )
        if len({raw(member.mask_key) for member in paired.members}) != len(names):
            said = "two members have the same mask key, so the masks that they have in common with a third one may cancel"
            raise Withdrawn("keys-replaced", f"{said}; look at these clusters, and at the hub's aggregator")
        if len(names) < MEMBERS_MIN:
            said = f"only {len(names)} clusters are left to mask with, and fewer than {MEMBERS_MIN} would see each other's updates"
            raise Withdrawn("too-few-members", f"{said}; invite more clusters, or give them more time (spec.rounds.deadlineSeconds)")
        own = next((member for member in paired.members if member.cluster == self.cluster), None)
        if own is None or (own.mask_key, own.seal_key, own.weight) != (self.mask_key, self.seal_key, weight):
            said = "the members are not named with the keys and the weight that this cluster has said"
            raise Withdrawn("keys-replaced", f"{said}; look who else may state facts for this cluster, and at the hub's aggregator")
        if (paired.question or "") != self.about.question:
            said = "the members were asked to train another model, or otherwise, than this cluster"
            raise Withdrawn("question-differs", f"{said}, so that it would stand alone{LOOK}")
        _insist_on_terms(paired, terms)
        return Member(self, Pairing.of(paired), {member.cluster: member for member in paired.members})


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a cluster hands out: shares sealed for its neighbours, everybody's commitments, and the shares that it keeps itself."""

    sealed: Mapping[str, str]
    commitments: Mapping[str, Commitments]
    kept: Shares


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster that knows the others and their keys."""

    participant: Participant
    pairing: Pairing
    keys: Mapping[str, Keyholder]

    @property
    def cluster(self) -> str:
        """Its name."""
        return self.participant.cluster

    def share(self, randomness: bytes) -> Sharing:
        """Its secrets in shares; of the `randomness_bytes` one half is for the seed, the other one for the mask key."""
        holders, threshold, secrets = self.pairing.holders(self.cluster), self.pairing.threshold, self.participant.secrets
        half = shamir.randomness_bytes(threshold)
        seeds = shamir.split(secrets.seed, len(holders), threshold, randomness[:half])
        keys = shamir.split(secrets.mask, len(holders), threshold, randomness[half:])
        shares = {holder: Shares(*pair) for holder, pair in zip(holders, zip(seeds, keys, strict=True), strict=True)}
        sealed = {
            other: text(agreement.seal(self._seal_key(other), shares[other].seed + shares[other].key, self._between(self.cluster, other)))
            for other in self.pairing.neighbours[self.cluster]
        }
        return Sharing(sealed, {holder: each.commitments for holder, each in shares.items()}, shares[self.cluster])

    def bind(self, entrusted: Entrusted, kept: Shares) -> "Trustee":
        """The cluster as one that may mask: it knows whose secrets are in safe hands, and holds shares of its neighbours'.

        Raises Withdrawn when something is missing, or not what its sender had committed itself to.
        """
        bound, neighbours = frozenset(entrusted.members), self.pairing.neighbours[self.cluster]
        if self.cluster not in bound or not bound <= self.keys.keys():
            raise Withdrawn("keys-replaced", f"the bound clusters are not members of the round{LOOK}")
        _insist_on_enough(bound, self.pairing, self.cluster, "were bound")
        held = {self.cluster: kept}
        for sender in sorted(bound.intersection(neighbours)):
            if sender not in entrusted.sealed or sender not in entrusted.commitments:
                raise Withdrawn("shares-missing", f"what {sender} has sealed for this cluster is missing{LOOK}")
            held[sender] = self._opened(sender, entrusted.sealed[sender], entrusted.commitments[sender])
        return Trustee(self, bound, held)

    def _opened(self, sender: str, sealed: str, committed: Commitments) -> Shares:
        try:
            message = agreement.unseal(self._seal_key(sender), raw(sealed), self._between(sender, self.cluster))
        except BadInput as error:
            raise Withdrawn("share-tampered", f"what {sender} has sealed for this cluster cannot be used: {error}") from error
        shares = Shares(message[: shamir.SHARE_BYTES], message[shamir.SHARE_BYTES :])
        if len(message) != 2 * shamir.SHARE_BYTES or shares.commitments != tuple(committed):
            said = f"the shares of {sender} are not those that it has committed itself to"
            raise Withdrawn("share-tampered", f"{said}; look at its collaborator, and at the hub's aggregator")
        return shares

    def _seal_key(self, other: str) -> bytes:
        return agreement.shared_secret(
            self.participant.secrets.seal, raw(self.keys[other].seal_key), self.pairing.about.of(b"fedplane seal")
        )

    def _between(self, sender: str, receiver: str) -> bytes:
        return self.pairing.about.of(b"fedplane shares", sender, receiver)

    def masks(self, bound: Iterable[str]) -> tuple[Mask, ...]:
        """What is put on its integers: the mask of its own, and one for each bound neighbour, by name."""
        about, secret = self.pairing.about, self.participant.secrets
        others = sorted(set(bound).intersection(self.pairing.neighbours[self.cluster]))
        pairs = (Mask(pair_key(secret.mask, raw(self.keys[other].mask_key), about), subtracts(self.cluster, other)) for other in others)
        return Mask(self_key(secret.seed, about), subtract=False), *pairs


@dataclass(frozen=True, slots=True)
class Revelation:
    """What a cluster gives when the round is closed, as `revealed` has it: shares of seeds and of mask keys, never both of one cluster."""

    seeds: dict[str, str]
    keys: dict[str, str]


class Trustee:
    """A cluster that masks, and holds shares of its neighbours' secrets. It gives them once."""

    def __init__(self, member: Member, bound: frozenset[str], held: Mapping[str, Shares]) -> None:
        self._member, self._bound = member, bound
        self._held: Mapping[str, Shares] | None = held
        self.masks = member.masks(bound)

    def reveal(self, counting: Iterable[str]) -> Revelation:
        """What takes the masks off those who count, and off what those have in common with bound clusters that do not.

        Raises Withdrawn when it is asked in a way that no honest hub asks, and whenever it has answered before: then it has nothing left.
        """
        if self._held is None:
            raise Withdrawn(
                "asked-twice", "this cluster has given its shares of the round, and gives no others; look at the hub's aggregator"
            )
        counting, pairing, cluster = frozenset(counting), self._member.pairing, self._member.cluster
        if cluster not in counting or not counting <= self._bound:
            raise Withdrawn(
                "keys-replaced", "those who count are not the clusters that this one has masked with; look at the hub's aggregator"
            )
        _insist_on_enough(counting, pairing, cluster, "count")
        held, self._held = self._held, None
        seeds = {other: text(held[other].seed) for other in sorted(held) if other in counting}
        return Revelation(seeds, {other: text(held[other].key) for other in sorted(held) if other not in counting})


def counted(terms: MaskingTerms, paired: Paired, weight: float) -> float:
    """How much a cluster with so many examples counts, from 0 to 1; with noise all count the same. Raises Withdrawn if it were more."""
    if terms.norm_max is not None:
        return 1.0
    if weight > paired.weight_scale:
        if terms.weights == "hidden":  # what is said here is on the log
            said = f"this cluster has more examples than the {paired.weight_scale:g} that a cluster counts for"
        else:
            said = f"this cluster has {weight:g} examples, and no cluster counts for more than {paired.weight_scale:g}"
        raise Withdrawn("weight-too-large", f"{said}; set a larger spec.rounds.weightMax, or let it train on fewer")
    return weight / paired.weight_scale


def randomness_bytes(threshold: int) -> int:
    """How much chance the shares of both secrets are made with."""
    return 2 * shamir.randomness_bytes(threshold)


def colluding_max(holders: int, threshold: int) -> int:
    """How many holders may tell everything to a hub whose log lies, if everybody is everybody's neighbour; -1 if not even none may.

    Both bounds of the module's text in one: what a larger number of them could do, a smaller one cannot.
    """

    def is_safe(c: int) -> bool:
        return c <= 2 * threshold - holders - 1 and (threshold - c) * (threshold - c - 1) > (holders - c - 1) * (holders - threshold)

    return max((c for c in range(threshold) if is_safe(c)), default=-1)


def _insist_on_terms(paired: Paired, terms: MaskingTerms) -> None:
    """What the invitation asks for is the least; what follows from the number of members is as well, and more than half in any case."""
    members, degree, threshold = len(paired.members), paired.degree, paired.threshold
    try:
        least, _ = graph.chosen(members, terms.neighbours, terms.threshold)
        _, enough = graph.chosen(members, max(least, degree), terms.threshold)
        graph.check(members, degree, threshold)
    except BadInput as error:
        raise Withdrawn("threshold-too-low", f"{members} clusters cannot mask as the invitation and the hub want it: {error}") from error
    if degree < least:
        raise Withdrawn("neighbours-too-few", f"{degree} neighbours are fewer than the {least} that {members} clusters are to have{LOOK}")
    if threshold < enough:
        said = f"the shares of {threshold} out of {degree + 1} unmask a cluster, and they are to be {enough}"
        raise Withdrawn("threshold-too-low", f"{said}{LOOK}")


def _insist_on_enough(clusters: frozenset[str], pairing: Pairing, cluster: str, what: str) -> None:
    """Raise Withdrawn unless they are enough of this cluster's holders, of whom t are needed, and enough at all."""
    there = len(clusters.intersection(pairing.holders(cluster)))
    if there < pairing.threshold or len(clusters) < MEMBERS_MIN:
        said = f"{there} of this cluster and its neighbours {what}, and {max(pairing.threshold, MEMBERS_MIN)} have to"
        raise Withdrawn("too-few-members", f"{said}; give clusters more time (spec.privacy.secureAggregation.stepSeconds)")
