"""A masked round as a hostile hub or hostile clusters would have it: what an honest side is sent, and what must hold of its answer.

The round is real and always the same: five clusters, whose secrets are digests of their names, and one that drops out after it was bound.
It is the input that a search begins with; keys and shares fit until somebody changes them.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import shake_256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from forms import SAFETENSORS, entry

from fedplane.aggregator import exchange
from fedplane.aggregator.exchange import Exchange
from fedplane.privacy import masking, participant
from fedplane.privacy.masking import Masking, Noise
from fedplane.privacy.pairing import About
from fedplane.privacy.participant import MEMBERS_MIN, Participant, Secrets, Trustee, Withdrawn, counted, randomness_bytes
from fedplane.privacy.recovering import left_on
from fedplane.privacy.vouching import Peers, Voucher, words
from fedplane.schemas.agents import PREFIX
from fedplane.schemas.facts import Bound, Entrusted, Fact, Keyed, Paired, Revealed, Shared
from fedplane.schemas.layout import parse_header
from fedplane.schemas.privacy_terms import Keyholder, MaskingTerms

__all__ = ["helped", "recovered", "seen_by_a_cluster", "seen_by_a_cluster_with_noise", "seen_by_the_hub", "signed_keys", "vouched"]

AT = datetime(2026, 1, 2, tzinfo=UTC)
LAYOUT = SAFETENSORS.write(
    b"", {"f": entry("F32", 8, 0) | {"shape": [2]}, "i": entry("I16", 8, 8) | {"shape": [4]}, "b": entry("BOOL", 2, 16)}, b""
)
ABOUT = About("mnist-01234567", 1, "blake3:" + "0" * 64)
TERMS = MaskingTerms(clip=8, bits=32, weights="public", step_seconds=60)
CLUSTERS, GONE = ("amsterdam", "berlin", "cairo", "delhi", "eindhoven"), "berlin"
OURS = CLUSTERS[0]
COUNTING = tuple(each for each in CLUSTERS if each != GONE)
ADDON = "fedplane"


@dataclass(frozen=True)
class Round:
    """What was said."""

    facts: tuple[Fact, ...]

    def only(self, kind: type[Fact]) -> list[dict[str, Any]]:
        return [fact.model_dump(mode="json") for fact in self.facts if type(fact) is kind]


def helped(data: bytes) -> None:
    """A cluster does as a hub tells it: shares, is handed others' shares, masks, and reveals; it never gives both secrets of another."""
    told = _told(data)
    paired, entrusted = Paired.model_validate(told.get("paired")), Entrusted.model_validate(told.get("entrusted"))
    counting, terms = [str(each) for each in _list(told.get("counting"))], MaskingTerms.model_validate(told.get("terms"))
    member = _participant(OURS).pair(paired, terms, 1.0)
    sharing = member.share(_chance(OURS, randomness_bytes(member.pairing.threshold)))
    assert 2 * member.pairing.threshold > len(member.pairing.holders(OURS)), "half of the holders are enough, so a hub may ask each half"
    trustee = member.bind(entrusted, sharing.kept)
    _mask(terms, paired, trustee)
    given = trustee.reveal(counting)
    assert not given.seeds.keys() & given.keys.keys(), "both secrets of a cluster are given away"
    assert given.seeds.keys() <= {*counting} <= {*entrusted.members}, "the seed of a cluster is given whose update does not count"
    assert len({*counting}) >= MEMBERS_MIN, "a sum of two is opened"
    try:
        trustee.reveal(entrusted.members)
    except Withdrawn as refused:
        assert refused.reason == "asked-twice"
    else:
        raise AssertionError("a cluster answers twice")


def recovered(data: bytes) -> None:
    """A hub takes what clusters say, refuses what does not fit, and recovers what takes the masks off, or says whose share is missing."""
    told = _told(data)
    exchanged = Exchange()
    for keyed in (Keyed.model_validate(each) for each in _list(told.get("keyed"))):
        if exchange.unusable_keys(exchanged, keyed, hidden=False) is None:
            exchanged = exchange.evolve(exchanged, keyed)
    paired = _round().facts[len(CLUSTERS)]
    assert isinstance(paired, Paired)
    holders = [exchange.keyholder(exchanged.keyed[name]) for name in sorted(exchanged.keyed)]
    exchanged = _stated(exchanged, paired.model_copy(update={"members": tuple(holders)}))
    for shared in (Shared.model_validate(each) for each in _list(told.get("shared"))):
        if exchanged.pairing and shared.cluster in exchanged.pairing.members and exchange.unusable_shares(exchanged, shared) is None:
            exchanged = exchange.evolve(exchanged, shared)
    if exchanged.pairing is None:
        return
    exchanged = _stated(exchanged, Bound(at=AT, run=ABOUT.run, round=ABOUT.round, members=exchange.bindable(exchanged, ()), deadline=AT))
    bound = exchanged.members
    members = [name for name in bound if name in COUNTING]
    for revealed in (Revealed.model_validate(each) for each in _list(told.get("revealed"))):
        if exchanged.bound is not None and revealed.cluster in bound:
            counts, _ = exchange.false_shares(exchanged, revealed, members)
            exchanged = exchange.evolve(exchanged, counts)
    if members and exchange.is_recoverable(exchanged, members):
        keys = {name: keyed.mask_key for name, keyed in exchanged.keyed.items()}
        found = left_on(exchanged.pairing, keys, bound, members, *exchange.held(exchanged))
        assert len(found) >= len(members), "a mask is left in the sum"


def vouched(data: bytes) -> None:
    """A cluster looks whose the keys are that a hub has handed it."""
    holder = Keyholder.model_validate_json(data)
    Peers(ADDON, (_authority(),)).check(holder, ABOUT, AT)
    assert holder.cluster == OURS, "keys are believed of a cluster that has no certificate"


def seen_by_a_cluster() -> dict[str, Any]:
    """What a hub hands to the first of the clusters."""
    told = _round()
    (entrusted,) = (each for each in told.only(Entrusted) if each["cluster"] == OURS)
    return {"paired": told.only(Paired)[0], "entrusted": entrusted, "counting": list(COUNTING), "terms": TERMS.model_dump(mode="json")}


def seen_by_a_cluster_with_noise() -> dict[str, Any]:
    """The same where it is to add noise, and to hide its weight."""
    noise = {"norm_max": 1.0, "deviation": 0.5, "weights": "hidden", "weight_max": 100.0, "bits": 64, "neighbours": 4, "threshold": 4}
    told = seen_by_a_cluster()
    return {**told, "terms": {**told["terms"], **noise}}


def seen_by_the_hub() -> dict[str, Any]:
    """What the clusters say."""
    told = _round()
    return {"keyed": told.only(Keyed), "shared": told.only(Shared), "revealed": told.only(Revealed)}


def signed_keys() -> dict[str, Any]:
    """The keys of the first of the clusters, as the others are shown them."""
    ours, key = _participant(OURS), ec.derive_private_key(8, ec.SECP256R1())
    name = f"{PREFIX}:cluster:{OURS}:addon:{ADDON}:agent:{ADDON}-agent"
    groups = f"{PREFIX}:cluster:{OURS}:addon:{ADDON}", f"{PREFIX}:addon:{ADDON}"
    subject = x509.Name([_named(NameOID.COMMON_NAME, name), *(_named(NameOID.ORGANIZATION_NAME, group) for group in groups)])
    signed = _certificate(subject, key.public_key())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    voucher = Voucher.of(signed.public_bytes(serialization.Encoding.PEM), private)
    said = words(ABOUT, OURS, ours.mask_key, ours.seal_key)
    keys = {"cluster": OURS, "weight": 1, "mask_key": ours.mask_key, "seal_key": ours.seal_key}
    return {**keys, "certificate": voucher.certificate, "signature": voucher.sign(said)}


@cache
def _round() -> Round:
    named = {"at": AT, "run": ABOUT.run, "round": ABOUT.round}
    ours = {name: _participant(name) for name in CLUSTERS}
    keyed = [Keyed(**named, cluster=name, weight=1, metrics={}, mask_key=it.mask_key, seal_key=it.seal_key) for name, it in ours.items()]
    holders = tuple(exchange.keyholder(each) for each in keyed)
    paired = Paired(
        **named, members=holders, degree=4, threshold=4, weight_scale=1, deadline=AT, reason="everyone answered", question=ABOUT.question
    )
    members = {name: it.pair(paired, TERMS, 1.0) for name, it in ours.items()}
    sharing = {name: it.share(_chance(name, randomness_bytes(paired.threshold))) for name, it in members.items()}
    shared = [Shared(**named, cluster=name, sealed=it.sealed, commitments=it.commitments) for name, it in sharing.items()]
    bound = Bound(**named, members=CLUSTERS, deadline=AT)
    entrusted = [
        Entrusted(
            **named, cluster=name, members=CLUSTERS, deadline=AT, sealed={other: sharing[other].sealed[name] for other in others},
            commitments={other: sharing[other].commitments[name] for other in others},
        )
        for name in CLUSTERS
        for others in [[each for each in CLUSTERS if each != name]]
    ]  # fmt: skip
    trustees = {told.cluster: members[told.cluster].bind(told, sharing[told.cluster].kept) for told in entrusted if told.cluster != GONE}
    given = {name: trustee.reveal(COUNTING) for name, trustee in trustees.items()}
    revealed = [Revealed(**named, cluster=name, seeds=each.seeds, keys=each.keys) for name, each in given.items()]
    return Round((*keyed, paired, *shared, bound, *entrusted, *revealed))


def _mask(terms: MaskingTerms, paired: Paired, trustee: Trustee) -> None:
    """What a collaborator does with an update of every kind of numbers."""
    layout = parse_header(LAYOUT)
    update, model = memoryview(bytes(range(60, 60 + layout.bytes))), memoryview(bytes(range(61, 61 + layout.bytes)))
    fixed, counts = masking.fixed_of(terms, paired), counted(terms, paired, 1.0)
    noise = None
    if terms.norm_max is not None and terms.deviation is not None:
        factor = masking.shortened(layout, update, model, terms.norm_max)
        noise = Noise(_chance("noise", 32), terms.deviation / fixed.step, factor)
    how = Masking(fixed, counts, trustee.masks, noise)
    made = masking.masked(layout, (0, layout.bytes), 0, update, model, how)
    assert len(made.data) == 8 * terms.bits // 8, "there is not one integer for each number"
    masking.tally(how, counts)


def _stated(exchanged: Exchange, fact: Paired | Bound) -> Exchange:
    return exchange.evolve(exchanged, fact) if exchange.fits(exchanged, fact) else exchanged


def _participant(cluster: str) -> Participant:
    return Participant(ABOUT, cluster, Secrets.of(_chance(f"{cluster}'s secrets", participant.SECRETS_BYTES)))


def _chance(name: str, size: int) -> bytes:
    return shake_256(name.encode()).digest(size)


def _told(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


@cache
def _authority() -> x509.Certificate:
    key = ec.derive_private_key(9, ec.SECP256R1())
    return _certificate(_SIGNER, key.public_key())


_SIGNER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])


def _certificate(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
    made = x509.CertificateBuilder(_SIGNER, subject, key, 7, AT - timedelta(days=1), AT + timedelta(days=1))
    return made.sign(ec.derive_private_key(9, ec.SECP256R1()), hashes.SHA256())


def _named(kind: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(kind, value, _validate=False)  # OCM's names are longer than X.520 allows
