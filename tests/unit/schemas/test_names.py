"""The one grammar of names."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fedplane.schemas.names import NAME_CHARACTERS_MAX, Name, is_name, run_id

LEGAL = ["a", "0", "a-b", "cluster1", "a" * NAME_CHARACTERS_MAX]
ILLEGAL = ["", "-a", "a-", "A", "a.b", "a_b", "a b", "*", ">", "a\n", "é", "٣", "a" * (NAME_CHARACTERS_MAX + 1)]


@pytest.mark.parametrize("name", LEGAL)
def test_a_dns_label_is_a_name(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name
    assert is_name(name)


@pytest.mark.parametrize("text", ILLEGAL)
def test_what_would_break_a_subject_or_a_kubernetes_name_is_no_name(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(text)
    assert not is_name(text)


@given(st.text())
def test_asking_and_validating_agree_about_every_text(text: str) -> None:
    try:
        TypeAdapter(Name).validate_python(text)
        accepted = True
    except ValidationError:
        accepted = False

    assert is_name(text) == accepted


def test_a_run_is_named_after_its_resource_and_the_beginning_of_its_uid() -> None:
    assert run_id("mnist", "5F3A9C1E-20d4-4c3e-9d35-0c5d7c1b7a11") == "mnist-5f3a9c1e"
    assert run_id("team.mnist", "5f3a9c1e") == "team-mnist-5f3a9c1e"
    assert run_id("mnist", "ab-12") == "mnist-ab12"


@given(st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", fullmatch=True), st.uuids())
def test_every_resource_gives_a_legal_name_for_its_run(resource: str, uid: UUID) -> None:
    assert is_name(run_id(resource, str(uid)))


def test_two_resources_of_one_name_have_different_runs() -> None:
    long = "a" * 253

    assert run_id(long, "5f3a9c1e") != run_id(long, "5f3a9c1f")


@pytest.mark.parametrize("uid", ["", "---"])
def test_a_uid_that_tells_nothing_apart_is_refused(uid: str) -> None:
    with pytest.raises(ValueError, match="no letters or digits"):
        run_id("mnist", uid)
