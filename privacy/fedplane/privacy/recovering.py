"""Taking off the masks of a round: from members' shares to the masks that are left on the sum of the masked updates.

Of a cluster whose update counts, the seed is recovered, and with it the mask that it put on by itself.
Of one that dropped out after the others had masked with it, the mask key is recovered, and with it what is left of its masks in theirs.
Never both of one cluster: whoever knew both could take the mask off that cluster's update alone. So it is one or the other by construction:
the caller says whose update counts, and no share of the other kind is read.

A share counts if its digest is what its owner committed to before anybody masked, so a false one is left out, and whose it is is known.
Any shares that pass, as many as the threshold, give the same secret, if their owner has cut it honestly.
One that has not is found out by its mask key, since the public one is known. A false seed is not: it spoils the sum, as false masks would,
and the sum of all is the only thing that anybody can look at.

Pure. Which shares there are is what the log says.
Sources: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (https://eprint.iacr.org/2017/281),
figure 4, round 4; Bell et al. 2020 (https://eprint.iacr.org/2020/704), where only neighbours have shares.
"""

from collections.abc import Collection, Mapping
from itertools import islice

from fedplane.privacy import agreement, shamir
from fedplane.privacy.keystream import Mask
from fedplane.privacy.pairing import Pairing, commitment, pair_key, raw, self_key, subtracts
from fedplane.runtime.errors import BadInput

__all__ = ["FalseSecret", "Shares", "is_true", "left_on", "wanted_keys"]

Shares = Mapping[str, Mapping[str, str]]
"""By owner, the share of each holder, in the order of the log: those who recover from the first ones recover from the same ones."""


class FalseSecret(BadInput):
    """The shares that a cluster made of its secret are of another one, or of none; `cluster` is whose they are."""

    def __init__(self, cluster: str, message: str) -> None:
        super().__init__(message)
        self.cluster = cluster


def is_true(share: str, committed: str) -> bool:
    """Whether a share is the one that its owner has committed to."""
    try:
        return commitment(raw(share)) == committed
    except BadInput:
        return False


def wanted_keys(pairing: Pairing, bound: Collection[str], members: Collection[str]) -> tuple[str, ...]:
    """Whose mask keys are to be recovered, by name: they are bound, their update does not count, and somebody's has their mask."""
    return tuple(gone for gone in sorted(bound) if gone not in members and any(each in members for each in pairing.neighbours[gone]))


def left_on(
    pairing: Pairing, mask_keys: Mapping[str, str], bound: Collection[str], members: Collection[str], seeds: Shares, keys: Shares
) -> tuple[Mask, ...]:
    """The masks that are left on the sum of the members' updates, as they are to be applied to it once more, to take them off.

    `mask_keys` are everybody's public ones. Raises FalseSecret, and BadInput if there are too few shares.
    """
    found = [Mask(self_key(_joined(pairing, owner, seeds), pairing.about), subtract=True) for owner in sorted(members)]
    for gone in wanted_keys(pairing, bound, members):
        private = _joined(pairing, gone, keys)
        if agreement.public_of(private) != raw(mask_keys[gone]):
            raise FalseSecret(gone, f"what {gone} shared with its neighbours is not the key that it announced")
        for member in (neighbour for neighbour in pairing.neighbours[gone] if neighbour in members):
            found.append(Mask(pair_key(private, raw(mask_keys[member]), pairing.about), subtract=not subtracts(member, gone)))
    return tuple(found)


def _joined(pairing: Pairing, owner: str, shares: Shares) -> bytes:
    held = shares.get(owner, {})
    first = {pairing.number(owner, holder): raw(share) for holder, share in islice(held.items(), pairing.threshold)}
    if len(first) < pairing.threshold:
        raise BadInput(f"of the secrets of {owner} {len(first)} shares are known, and {pairing.threshold} are needed")
    try:
        return shamir.join(first, pairing.threshold)
    except BadInput as error:
        raise FalseSecret(owner, f"what {owner} shared with its neighbours makes up no secret: {error}") from error
