"""Taking masks off: which are left on a sum, what is needed for that, and whose fault it is when it cannot be done."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_story import Round, chance, changes_of

from fedplane.privacy import agreement, shamir
from fedplane.privacy.pairing import pair_key, raw, self_key, text
from fedplane.privacy.recovering import FalseSecret, is_true, left_on, wanted_keys
from fedplane.runtime.errors import BadInput

CLUSTERS = ("a", "b", "c", "d", "e")


def closed(gone: str = "", clusters: tuple[str, ...] = CLUSTERS, **changed: Any) -> Round:
    """A round in which everybody was bound, and some have not masked."""
    of = Round.of(clusters, **changed)
    of.share(clusters)
    of.bind()
    of.mask(changes_of(name for name in clusters if name not in gone))
    return of


def shares(of: Round) -> dict[str, dict[str, dict[str, str]]]:
    """What was revealed, by what it is of, owner and holder."""
    told: dict[str, dict[str, dict[str, str]]] = {"seeds": {}, "keys": {}}
    for holder, revelation in of.revealed.items():
        for what, given_ in (("seeds", revelation.seeds), ("keys", revelation.keys)):
            for owner, share in given_.items():
                told[what].setdefault(owner, {})[holder] = share
    return told


def public(of: Round) -> dict[str, str]:
    return {member.cluster: member.mask_key for member in of.fact.members}


def test_the_masks_left_on_are_one_of_each_member_s_own_and_one_for_each_pair_that_one_of_them_left() -> None:
    of = closed(gone="c")
    of.reveal("abde")
    about, secrets = of.pairing.about, {name: of.members[name].participant.secrets for name in CLUSTERS}
    found = left_on(of.pairing, public(of), CLUSTERS, of.masked.keys(), **shares(of))
    own = [(self_key(secrets[name].seed, about), True) for name in "abde"]
    common = [(pair_key(secrets["c"].mask, agreement.public_of(secrets[name].mask), about), name < "c") for name in "abde"]

    assert [(mask.key, mask.subtract) for mask in found] == own + common


@settings(max_examples=25)
@given(st.data())
def test_any_threshold_of_shares_takes_the_masks_off_whoever_has_gone(data) -> None:
    degree = data.draw(st.sampled_from([2, 4]))
    members = CLUSTERS if degree == 4 else (*CLUSTERS, "f", "g")
    gone = data.draw(st.sampled_from(["", "b"]))
    threshold = 2 if degree == 2 else 4 if not gone else 3
    of = closed(gone, members, degree=degree, threshold=threshold)
    of.reveal(data.draw(st.permutations([name for name in members if name not in gone])))
    short = shares(of)
    for owners in short.values():
        for owner, held in owners.items():
            for holder in data.draw(st.permutations(sorted(held)))[threshold:]:
                del owners[owner][holder]
    changes = changes_of(name for name in members if name not in gone)
    left = left_on(of.pairing, public(of), members, of.masked.keys(), **short)
    assert len(left) == len(members) - len(gone) * (1 - degree)
    wanted = np.mean(list(changes.values()), axis=0)

    assert np.abs(of.mean() - wanted).max() <= of.fixed.error(len(changes))


def test_one_share_fewer_than_the_threshold_takes_nothing_off() -> None:
    of = closed()
    of.reveal("abd")

    with pytest.raises(BadInput, match="of the secrets of a 3 shares are known, and 4 are needed"):
        of.mean()


def test_a_key_is_wanted_only_of_those_whose_masks_are_in_the_sum() -> None:
    of = closed(clusters=("a", "b", "c", "d", "e", "f"), degree=2, threshold=2)
    bound, lonely = of.pairing.members, of.pairing.members[0]
    members = set(bound) - {lonely, *of.pairing.neighbours[lonely]}

    assert wanted_keys(of.pairing, bound, members) == tuple(sorted(of.pairing.neighbours[lonely]))
    assert wanted_keys(of.pairing, bound, bound) == ()


def test_shares_of_another_key_are_laid_to_their_owner_and_so_are_those_of_none() -> None:
    of, other = closed(gone="c"), closed(gone="c", clusters=CLUSTERS)
    of.reveal("abde")
    told = shares(of)
    lied = {holder: text(share) for holder, share in zip("abde", spoilt(other), strict=True)}

    with pytest.raises(FalseSecret, match="is not the key that it announced") as raised:
        left_on(of.pairing, public(of), CLUSTERS, of.masked.keys(), told["seeds"], {"c": lied})
    assert raised.value.cluster == "c"
    with pytest.raises(FalseSecret, match="makes up no secret") as raised:
        left_on(of.pairing, public(of), CLUSTERS, of.masked.keys(), told["seeds"], {"c": dict.fromkeys("abde", "AAAA")})
    assert raised.value.cluster == "c"


def spoilt(of: Round) -> tuple[bytes, ...]:
    """Shares for a, b, d and e of a secret that is not the mask key of c."""
    cut = shamir.split(chance("another key", 32), 5, of.fact.threshold, chance("how it is cut", shamir.randomness_bytes(of.fact.threshold)))
    return tuple(share for number, share in enumerate(cut) if number != 2)


def test_a_share_is_known_by_its_digest_and_no_text_passes_for_one() -> None:
    of = closed()
    committed, _ = of.sharings["a"].commitments["b"]
    of.reveal("b")
    share = of.revealed["b"].seeds["a"]
    flipped = text(bytes([raw(share)[0] ^ 1, *raw(share)[1:]]))

    assert [is_true(each, committed) for each in (share, flipped, "", "===", "no base64 at all")] == [True, False, False, False, False]
