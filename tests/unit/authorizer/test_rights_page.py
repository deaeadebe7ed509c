"""The page of rights is made of the grants, and what it lists is all that is granted."""

import runpy
from collections.abc import Sequence

import pytest
from sources import ROOT

from fedplane.authorizer.grants import Grant
from fedplane.schemas.patterns import matches

LISTING = runpy.run_path(str(ROOT / "docs/list_rights.py"))


def test_the_page_is_the_one_that_the_grants_make() -> None:
    assert (ROOT / "docs/security.md").read_text() == LISTING["page"](), "run: make schemas"


@pytest.mark.parametrize("grant", LISTING["GRANTS"].values(), ids=LISTING["GRANTS"])
def test_the_page_lists_every_right_that_is_granted(grant: Grant) -> None:
    listed = [right.subject for right in LISTING["RIGHTS"]]

    assert [pattern for pattern in (*grant.publish, *grant.subscribe) if not _is_listed(pattern, listed)] == []


def _is_listed(pattern: str, subjects: Sequence[str]) -> bool:
    return any(matches(pattern, subject) for subject in subjects)
