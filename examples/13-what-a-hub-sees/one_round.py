"""One round with fedplane's own code, in memory: what is on the bus if updates are masked, and what the mean is with noise.

    ../../.venv/bin/python one_round.py CHANGES.npz SEEN.npz

It runs in fedplane's environment, not in the app's. CHANGES has what training has changed at each cluster, a vector by its name.
It also has the `multipliers` of the noise that is asked for, and the `clip` that goes with them.
SEEN gets a vector `masked.NAME` for each cluster: its masked update, as the numbers that its integers would stand for without masks.
It gets the `mean` that is left when the masks are taken off, and how far that may be from the true one (`error`).
For each multiplier it gets the noised mean (`noised.M`), and the epsilon of one such round for a delta of 1e-5 (`epsilon.M`).

What a collaborator and an aggregator tell each other by facts goes from hand to hand here.
Chance is the system's, as in earnest: no two runs have the same masks and the same noise.
"""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from os import urandom
from pathlib import Path

import numpy as np

from fedplane.privacy import accounting, graph, recovering
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.gaussian import standard_normals
from fedplane.privacy.keystream import apply_all
from fedplane.privacy.pairing import About, Pairing
from fedplane.privacy.participant import SECRETS_BYTES, Participant, Secrets, Trustee, randomness_bytes
from fedplane.schemas.facts import Entrusted, Paired
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms

CLIP = 8.0
"""The largest change of a weight that counts: fedplane's choice for a network whose weights are below 1."""

DELTA = 1e-5
"""The resource's default: far less than one by the number of those who are protected."""

RUN, ROUND, NOW = "digits-01234567", 2, datetime.now(UTC)

Changes = Mapping[str, np.ndarray]


def masked_round(changes: Changes) -> Iterator[tuple[str, np.ndarray]]:
    """All of a round's steps, for clusters that count the same. Gives what is seen of each, and at last the mean."""
    terms = MaskingTerms(clip=CLIP, bits=32, weights="public", step_seconds=60)
    participants = {name: Participant(About(RUN, ROUND), name, Secrets.of(urandom(SECRETS_BYTES))) for name in sorted(changes)}
    paired = _paired(participants)
    trustees = _bound(participants, paired, terms)

    fixed = Fixed(CLIP, terms.bits, len(changes))
    total = np.zeros(len(next(iter(changes.values()))), fixed.dtype)
    for name, trustee in trustees.items():
        integers, _ = fixed.quantized(changes[name], 1.0)
        apply_all(integers, trustee.masks, shard=0)
        yield f"masked.{name}", integers.view("<i4") * fixed.step
        total += integers

    revealed = {name: trustee.reveal(trustees) for name, trustee in trustees.items()}
    seeds = {owner: {holder: each.seeds[owner] for holder, each in revealed.items()} for owner in trustees}
    publics = {name: each.mask_key for name, each in participants.items()}
    apply_all(total, recovering.left_on(Pairing.of(paired), publics, list(trustees), list(trustees), seeds, {}), shard=0)
    yield "mean", fixed.mean(total, float(len(changes)))
    yield "error", np.array(fixed.error(float(len(changes))))


def _paired(participants: Mapping[str, Participant]) -> Paired:
    """What the aggregator says once everybody's keys are there."""
    degree, threshold = graph.chosen(len(participants), None, None)
    keys = {name: {"mask_key": each.mask_key, "seal_key": each.seal_key} for name, each in participants.items()}
    members = tuple(Keyholder(cluster=name, weight=1, **keys[name]) for name in keys)
    return Paired(
        run=RUN, round=ROUND, at=NOW, members=members, degree=degree, threshold=threshold, weight_scale=1, deadline=NOW, reason="all are in"
    )


def _bound(participants: Mapping[str, Participant], paired: Paired, terms: MaskingTerms) -> dict[str, Trustee]:
    """Everybody with shares of everybody's secrets."""
    members = {name: each.pair(paired, terms, 1) for name, each in participants.items()}
    shared = {name: each.share(urandom(randomness_bytes(paired.threshold))) for name, each in members.items()}
    bound = {}
    for name, member in members.items():
        senders = [sender for sender in shared if sender != name]
        entrusted = Entrusted(
            run=RUN, round=ROUND, at=NOW, cluster=name, members=tuple(shared), deadline=NOW,
            sealed={sender: shared[sender].sealed[name] for sender in senders},
            commitments={sender: shared[sender].commitments[name] for sender in senders},
        )  # fmt: skip
        bound[name] = member.bind(entrusted, shared[name].kept)
    return bound


def noised(changes: Changes, multiplier: float, clip: float) -> np.ndarray:
    """The mean of shortened updates, with the noise of central differential privacy: none is longer than the clip."""
    shortened = [change * min(1.0, clip / np.linalg.norm(change)) for change in changes.values()]
    noise = multiplier * clip * standard_normals(urandom(32), 0, len(shortened[0]))
    return np.asarray((sum(shortened) + noise) / len(shortened))


def main(source: Path, target: Path) -> None:
    """Read, play and write."""
    with np.load(source) as given:
        multipliers, clip = given["multipliers"].tolist(), float(given["clip"])
        changes = {name: given[name] for name in given.files if name not in {"multipliers", "clip"}}
    seen = dict(masked_round(changes))
    for multiplier in multipliers:
        seen[f"noised.{multiplier:g}"] = noised(changes, multiplier, clip)
        seen[f"epsilon.{multiplier:g}"] = np.array(accounting.epsilon(multiplier, DELTA, 1, "pld"))
    np.savez(target, **seen)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python one_round.py CHANGES.npz SEEN.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
