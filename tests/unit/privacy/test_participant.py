"""A cluster in a masked round: the sum is right whoever drops out, and nobody is believed who does not keep to the protocol."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_story import ABOUT, Round, changes_of, entrusted, keyholder, paired, participant, terms

from fedplane.privacy.keystream import Mask, apply_all
from fedplane.privacy.pairing import About, Pairing, commitment, raw
from fedplane.privacy.participant import Withdrawn, colluding_max, counted, randomness_bytes
from fedplane.runtime.errors import BadInput
from fedplane.schemas.facts import Entrusted, Paired

SIX = tuple("abcdef")


def shared(clusters: tuple[str, ...] = SIX, **changed: Any) -> Round:
    it = Round.of(clusters, **changed)
    it.share(clusters)
    return it


def bound(clusters: tuple[str, ...] = SIX, **changed: Any) -> Round:
    it = shared(clusters, **changed)
    it.bind()
    return it


@settings(max_examples=25)
@given(data=st.data(), members=st.integers(4, 9), sparse=st.booleans())
def test_the_mean_is_that_of_those_who_count_whoever_drops_out_of_whatever_step(data: st.DataObject, members: int, sparse: bool) -> None:
    names = [f"c{number}" for number in range(members)]
    weights = {name: float(number + 1) for number, name in enumerate(names)}
    chosen = {"degree": 4, "threshold": 3} if sparse and members > 5 else {}
    it = Round.of(names, weights, **chosen)
    may_go = 1 if chosen else it.fact.degree + 1 - it.fact.threshold
    gone = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(("share", "mask", "reveal"))), max_size=may_go))
    left = {step: [name for name in names if name not in {who for who, at in gone if at in STEPS[step]}] for step in STEPS}

    it.share(left["share"])
    it.bind()
    it.mask(changes := changes_of(left["mask"]))
    it.reveal(left["reveal"])

    wanted = sum(weights[name] * change for name, change in changes.items()) / sum(weights[name] for name in changes)
    shares = sum(weights[name] for name in changes) / max(weights.values())
    assert np.abs(it.mean() - wanted).max() <= it.fixed.error(shares)


STEPS = {"share": ("share",), "mask": ("share", "mask"), "reveal": ("share", "mask", "reveal")}


def test_with_fewer_shares_than_the_threshold_the_masks_stay_on() -> None:
    it = bound()
    it.mask(changes_of(SIX))
    it.reveal("abc")

    with pytest.raises(BadInput, match="3 shares are known, and 4 are needed"):
        it.mean()


def test_what_is_revealed_is_never_both_of_one_cluster_and_always_of_everybody_in_the_neighbourhood() -> None:
    it = bound()
    it.mask(changes_of("abce"))

    told = it.trustees["a"].reveal("abce")

    assert (set(told.seeds), set(told.keys)) == (set("abce"), set("df"))
    assert raw(told.seeds["a"]) == it.sharings["a"].kept.seed


def test_who_has_given_its_shares_gives_no_others_whatever_the_hub_says() -> None:
    it = bound()
    it.trustees["a"].reveal("abcde")

    with pytest.raises(Withdrawn, match="gives no others") as refused:
        it.trustees["a"].reveal("abcdf")
    assert refused.value.reason == "asked-twice"


@pytest.mark.parametrize(
    ("counting", "reason"),
    [("bcdef", "keys-replaced"), ("abcdefg", "keys-replaced"), ("abc", "too-few-members")],
    ids=["not with itself", "with a stranger", "too few to unmask it"],
)
def test_shares_are_given_for_no_sum_that_would_lay_this_cluster_bare(counting: str, reason: str) -> None:
    it = bound()

    with pytest.raises(Withdrawn) as refused:
        it.trustees["a"].reveal(counting)
    assert refused.value.reason == reason
    assert set(it.trustees["a"].reveal(SIX).seeds) == set(SIX), "whoever refuses has given nothing"


def test_one_mask_that_the_hub_does_not_know_hides_a_change_as_well_as_chance_does() -> None:
    it = bound(tuple("abc"))
    nothing = {name: np.zeros(40_000) for name in "abc"}
    it.mask(nothing)
    known = [mask for mask in it.trustees["a"].masks if mask not in it.trustees["a"].masks[1:2]]  # the hub lacks the pair mask with b alone
    apply_all(it.masked["a"], [Mask(mask.key, not mask.subtract) for mask in known], 5)

    counts = np.bincount(it.masked["a"].view(np.uint8), minlength=256)
    expected = 4 * 40_000 / 256
    assert 170 < float(((counts - expected) ** 2 / expected).sum()) < 360, "chi-squared of 255 degrees: beyond that once in a million"


def replaced(fact: Paired, cluster: str, **changed: Any) -> Paired:
    members = tuple(each.model_copy(update=changed) if each.cluster == cluster else each for each in fact.members)
    return fact.model_copy(update={"members": members})


def otherwise(key: str) -> str:
    """The same 32 bytes: of base64's last character two bits say nothing."""
    last = WRITTEN.index(key[-2])
    return f"{key[:-2]}{WRITTEN[last ^ 1]}="


MALLORY = participant("mallory")
WRITTEN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (lambda it: replaced(it, "a", mask_key=MALLORY.mask_key), "keys-replaced"),
        (lambda it: replaced(it, "a", seal_key=MALLORY.seal_key), "keys-replaced"),
        (lambda it: replaced(it, "a", weight=2.0), "keys-replaced"),
        (lambda it: it.model_copy(update={"question": "blake3:" + "1" * 64}), "question-differs"),
        (lambda it: it.model_copy(update={"members": it.members[1:]}), "keys-replaced"),
        (lambda it: it.model_copy(update={"members": (*it.members, keyholder(participant("b")))}), "keys-replaced"),
        (lambda it: replaced(it, "e", mask_key=participant("b").mask_key), "keys-replaced"),
        (lambda it: replaced(it, "e", mask_key=otherwise(participant("b").mask_key)), "keys-replaced"),
        (lambda it: it.model_copy(update={"members": it.members[:2]}), "too-few-members"),
        (lambda it: it.model_copy(update={"threshold": 3}), "threshold-too-low"),
        (lambda it: it.model_copy(update={"threshold": 6}), "threshold-too-low"),
        (lambda it: it.model_copy(update={"degree": 9}), "threshold-too-low"),
        (lambda it: it.model_copy(update={"degree": 4}), "neighbours-too-few"),
    ],
    ids=[
        "mask key",
        "seal key",
        "weight",
        "another question",
        "left out",
        "twice",
        "another's mask key",
        "another's mask key, written otherwise",
        "two",
        "half",
        "all",
        "more than there are",
        "fewer than agreed",
    ],
)
def test_members_among_whom_an_update_is_not_safe_are_refused(said: Callable[[Paired], Paired], reason: str) -> None:
    with pytest.raises(Withdrawn) as refused:
        participant("a").pair(said(paired(map(participant, SIX))), terms(), 1.0)
    assert refused.value.reason == reason


def test_a_threshold_below_that_of_the_invitation_is_refused_though_it_would_hold_by_itself() -> None:
    with pytest.raises(Withdrawn, match="4 out of 6 unmask a cluster, and they are to be 5"):
        participant("a").pair(paired(map(participant, SIX)), terms(threshold=5), 1.0)


def tampered(sealed: str) -> str:
    return sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]


@pytest.mark.parametrize(
    ("handed", "reason"),
    [
        (lambda it: {"members": tuple("bcdef")}, "keys-replaced"),
        (lambda it: {"members": (*SIX, "g")}, "keys-replaced"),
        (lambda it: {"members": tuple("abc")}, "too-few-members"),
        (lambda it: {"sealed": {k: v for k, v in it.sealed.items() if k != "c"}}, "shares-missing"),
        (lambda it: {"sealed": {**it.sealed, "c": tampered(it.sealed["c"])}}, "share-tampered"),
        (lambda it: {"sealed": {**it.sealed, "c": it.sealed["d"]}}, "share-tampered"),
        (lambda it: {"commitments": {**it.commitments, "c": it.commitments["d"]}}, "share-tampered"),
        (lambda it: {"commitments": {**it.commitments, "c": it.commitments["c"][::-1]}}, "share-tampered"),
    ],
    ids=["left out", "a stranger", "too few", "missing", "tampered", "another's", "another's commitment", "the wrong way round"],
)
def test_shares_that_are_not_what_their_sender_sealed_and_committed_to_are_refused(
    handed: Callable[[Entrusted], dict[str, Any]], reason: str
) -> None:
    it = shared()
    fact = entrusted(it.members["a"], it.sharings, SIX)

    with pytest.raises(Withdrawn) as refused:
        it.members["a"].bind(fact.model_copy(update=handed(fact)), it.sharings["a"].kept)
    assert refused.value.reason == reason


def test_masks_of_clusters_that_were_asked_different_things_do_not_cancel() -> None:
    """Though a log that lies has shown each of them its own `paired`."""
    here, there = (paired([participant(name, About("r1", 3, asked)) for name in "abc"], question=asked) for asked in (ASKED, OTHERWISE))
    one = participant("a", About("r1", 3, ASKED)).pair(here, terms(), 1.0)
    two = participant("b", About("r1", 3, OTHERWISE)).pair(there, terms(), 1.0)

    assert {mask.key for mask in one.masks("abc")[1:]} & {mask.key for mask in two.masks("abc")[1:]} == set()


ASKED, OTHERWISE = ("blake3:" + digit * 64 for digit in "12")


@pytest.mark.parametrize(
    "others",
    [
        lambda it: paired(map(participant, "abcdefg")),
        lambda it: it.model_copy(update={"threshold": 5}),
        lambda it: it.model_copy(update={"weight_scale": 1e9}),
        lambda it: replaced(it, "c", weight=0.5),
    ],
    ids=["more members", "threshold", "what all weights are divided by", "somebody's weight"],
)
def test_clusters_that_were_told_of_different_members_cannot_help_to_unmask_one_another(others: Callable[[Paired], Paired]) -> None:
    """Else a log that tells one of few others, with a low threshold, and these of many, could have the few declared gone by the many."""
    here, there = shared(), others(paired(map(participant, SIX)))
    told = participant("b").pair(there, terms(), 1.0)

    with pytest.raises(Withdrawn) as refused:
        told.bind(entrusted(told, here.sharings, SIX), told.share(bytes(randomness_bytes(there.threshold))).kept)
    assert refused.value.reason == "share-tampered"
    assert {mask.key for mask in here.members["a"].masks(SIX)} & {mask.key for mask in told.masks(SIX)} == set()


def test_what_was_sealed_in_one_round_is_of_no_use_in_another() -> None:
    it = shared()
    able = [participant(cluster, About("r1", 4)) for cluster in SIX]
    later = able[0].pair(paired(able, round=4), terms(), 1.0)

    with pytest.raises(Withdrawn) as refused:
        later.bind(entrusted(later, it.sharings, SIX), it.sharings["a"].kept)
    assert refused.value.reason == "share-tampered"


def test_every_holder_has_a_share_that_its_commitment_knows_and_the_owner_keeps_its_own() -> None:
    it = shared()
    sharing = it.sharings["a"]

    assert (set(sharing.sealed), set(sharing.commitments)) == (set("bcdef"), set(SIX))
    assert sharing.commitments["a"] == (commitment(sharing.kept.seed), commitment(sharing.kept.key))
    assert len({each for pair in sharing.commitments.values() for each in pair}) == 12


def test_a_cluster_counts_by_its_share_of_the_largest_weight_and_with_noise_like_every_other() -> None:
    fact = paired(map(participant, SIX), weight_scale=40.0)

    assert counted(terms(), fact, 10) == 0.25
    assert counted(terms(norm_max=1.0, deviation=0.1), fact, 10) == 1.0
    with pytest.raises(Withdrawn, match=r"50 examples, and no cluster counts for more than 40"):
        counted(terms(), fact, 50)


def test_who_hides_how_many_examples_it_has_does_not_say_it_when_they_are_too_many() -> None:
    with pytest.raises(Withdrawn, match="more examples than the 40 that a cluster counts for") as refused:
        counted(terms(weights="hidden"), paired(map(participant, SIX), weight_scale=40.0), 53)
    assert "53" not in str(refused.value), "what a cluster withdraws with is on the log"


def test_secrets_are_not_shown_by_what_is_logged() -> None:
    it = bound()

    for shown in (it.members["a"].participant.secrets, it.sharings["a"].kept):
        assert "b'" not in repr(shown)


@pytest.mark.parametrize(("holders", "threshold", "most"), [(3, 2, -1), (6, 4, 0), (9, 6, 0), (30, 20, 3), (30, 24, 13), (120, 80, 14)])
def test_how_many_may_collude_with_a_lying_log_follows_from_both_bounds(holders: int, threshold: int, most: int) -> None:
    assert colluding_max(holders, threshold) == most
    assert most <= 2 * threshold - holders - 1


def test_a_log_that_shows_everybody_another_end_lays_a_cluster_bare_if_more_collude_than_the_bound_allows() -> None:
    """The attack of `participant`'s text: f colludes, and has one more than the bound for six allows."""
    it = bound()
    it.mask(changes := changes_of("abcdef"))
    victim, views = "a", {"b": "abdef", "c": "acdef", "d": "adef", "e": "adef"}
    it.trustees["a"] = it.members["a"].bind(entrusted(it.members["a"], it.sharings, "abcf"), it.sharings["a"].kept)
    it.mask({"a": changes["a"]})
    it.revealed = {name: it.trustees[name].reveal(counting) for name, counting in views.items()} | {"f": it.trustees["f"].reveal("adef")}

    got = {owner: sum(owner in told.keys for told in it.revealed.values()) for owner in "bc"}
    assert (colluding_max(6, 4), got, sum(victim in told.seeds for told in it.revealed.values())) == (0, {"b": 4, "c": 4}, 5)


def test_everybody_derives_the_same_neighbours_and_they_change_with_any_key() -> None:
    many = [participant(f"c{number}") for number in range(80)]
    fact = paired(many)
    pairing, other = Pairing.of(fact), Pairing.of(replaced(fact, "c7", seal_key=MALLORY.seal_key))

    assert 2 < fact.degree < 79
    assert pairing == Pairing.of(fact.model_copy(update={"members": fact.members[::-1]}))
    assert pairing.neighbours != other.neighbours
    assert all(name in pairing.neighbours[each] for name, around in pairing.neighbours.items() for each in around)
    assert [pairing.number("c7", holder) for holder in pairing.holders("c7")] == list(range(fact.degree + 1))


def test_a_key_is_about_a_run_a_round_a_question_and_members() -> None:
    assert (
        len(
            {
                ABOUT.of(b"x"),
                About("r1", 3, "q").of(b"x"),
                About("r1", 3, "", "q").of(b"x"),
                About("r1", 4).of(b"x"),
                About("r2", 3).of(b"x"),
                ABOUT.of(b"y"),
                ABOUT.of(b"x", "a"),
            }
        )
        == 7
    )
