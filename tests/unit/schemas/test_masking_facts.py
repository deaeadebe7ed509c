"""What all members of a masked round say of themselves fits the facts that hand it on, however much each of them says."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from fedplane.schemas import envelope
from fedplane.schemas.facts import Entrusted, Paired
from fedplane.schemas.models import WEIGHT_MAX
from fedplane.schemas.privacy import MASKED_MAX
from fedplane.schemas.privacy_terms import CERTIFICATE_CHARACTERS_MAX, LINES_MAX, Keyholder

AT = datetime(2026, 1, 2, tzinfo=UTC)
NAMES = tuple(f"{'c' * 60}{number:03}" for number in range(MASKED_MAX))
KEY = "k" * 43 + "="
CERTIFICATE = "\n" * LINES_MAX + "a" * (CERTIFICATE_CHARACTERS_MAX - LINES_MAX)


def test_the_fact_that_names_the_members_has_room_for_the_largest_certificates_of_all() -> None:
    holders = [
        Keyholder(cluster=name, mask_key=KEY, seal_key=KEY, certificate=CERTIFICATE, signature="s" * 800, weight=WEIGHT_MAX / 3)
        for name in NAMES
    ]
    paired = Paired(
        at=AT, run="r" * 63, round=1, members=tuple(holders), degree=MASKED_MAX - 1, threshold=MASKED_MAX, weight_scale=1, deadline=AT,
        reason="everyone answered",
    )  # fmt: skip

    assert 800_000 < len(envelope.write(paired, "/aggregator").body) <= Paired.bytes_max


def test_the_fact_that_hands_a_member_its_shares_has_room_for_those_of_all_others() -> None:
    entrusted = Entrusted(
        at=AT, run="r" * 63, round=1, cluster=NAMES[0], members=NAMES, sealed=dict.fromkeys(NAMES, "s" * 400),
        commitments=dict.fromkeys(NAMES, (KEY, KEY)), deadline=AT,
    )  # fmt: skip

    assert len(envelope.write(entrusted, "/aggregator").body) <= Entrusted.bytes_max


@pytest.mark.parametrize("certificate", ["\x01" * 6_000, "\u20ac", "\n" * (LINES_MAX + 1), "a" * (CERTIFICATE_CHARACTERS_MAX + 1)])
def test_what_grows_when_it_is_written_is_no_certificate(certificate: str) -> None:
    with pytest.raises(ValidationError, match="certificate"):
        Keyholder(cluster="a", mask_key=KEY, seal_key=KEY, certificate=certificate, weight=1)
