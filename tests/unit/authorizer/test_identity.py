"""Who a client is: the whole subject fits, or nobody is let in, and the reason says what does not."""

import pytest
from authority_story import ADDON, groups_of, user_of

from fedplane.authorizer.certificates import Certificate
from fedplane.authorizer.identity import Because, Identity, Refused, Trust, identify
from fedplane.runtime.metrics import CONNECTIONS_REFUSED
from fedplane.schemas.roles import Role

TRUST = Trust(ADDON, clusters=frozenset({"ocm"}), services=frozenset({"ours"}))


def chain(name: str, groups: tuple[str, ...] = (), authority: str = "ocm") -> tuple[Certificate, ...]:
    return Certificate((name,), frozenset(groups), "leaf"), Certificate(("authority",), frozenset(), authority)


def agent(cluster: str, addon: str = ADDON) -> tuple[Certificate, ...]:
    return chain(user_of(cluster, addon), groups_of(cluster, addon))


def test_the_add_ons_agent_is_the_collaborator_of_its_cluster() -> None:
    assert identify(agent("amsterdam"), TRUST) == Identity(Role.COLLABORATOR, "amsterdam")


def test_a_third_group_of_kubernetes_own_does_no_harm() -> None:
    groups = (*groups_of("amsterdam"), "system:authenticated")

    assert identify(chain(user_of("amsterdam"), groups), TRUST) == Identity(Role.COLLABORATOR, "amsterdam")


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COLLABORATOR])
def test_a_service_is_who_its_name_says(role: Role) -> None:
    assert identify(chain(f"fedplane:{role}:one", authority="ours"), TRUST) == Identity(role, "one")


@pytest.mark.parametrize("cluster", ["*", ">", "a.b", "a.>", "Amsterdam", "amsterdam\n", "", "-a", "a" * 64, "a:addon:fedplane:agent:x"])
def test_a_cluster_whose_name_is_no_label_is_refused(cluster: str) -> None:
    assert isinstance(identify(agent(cluster), TRUST), Refused)


@pytest.mark.parametrize(
    ("certificates", "reason"),
    [
        ((), "no certificate that the server could verify"),
        (agent("amsterdam", "work-manager"), "no agent of the add-on fedplane"),
        (chain(user_of("amsterdam") + ":more", groups_of("amsterdam")), "no agent of the add-on"),
        (chain("x" + user_of("amsterdam"), groups_of("amsterdam")), "no agent of the add-on"),
        (chain(user_of("amsterdam"), groups_of("berlin")), "not in the group system:open-cluster-management:cluster:amsterdam"),
        (chain(user_of("amsterdam"), groups_of("amsterdam")[:1]), "not in the group system:open-cluster-management:addon:fedplane"),
        (
            chain(user_of("amsterdam"), groups_of("amsterdam") + groups_of("berlin")),
            "cluster:berlin:addon:fedplane, which is another one's",
        ),
        (chain(user_of("amsterdam"), groups_of("amsterdam"), "stranger"), "not one for clients of this kind"),
        (chain("fedplane:aggregator:one", authority="ocm"), "no agent of the add-on"),
        (chain(user_of("amsterdam"), groups_of("amsterdam"), "ours"), "not one for clients of this kind"),
        (chain("fedplane:collaborator:amsterdam", authority="ours"), "a role that we know"),
        (chain("fedplane:king:one", authority="ours"), "a role that we know"),
        (chain("fedplane:status:a.b", authority="ours"), "a role that we know"),
        ((Certificate(("a", "b"), frozenset(), "leaf"), Certificate((), frozenset(), "ocm")), "has 2 common names"),
    ],
)
def test_whoever_does_not_fit_is_refused_with_the_reason(certificates: tuple[Certificate, ...], reason: str) -> None:
    refused = identify(certificates, TRUST)

    assert isinstance(refused, Refused)
    assert reason in refused.reason


def test_refusals_are_counted_by_the_kinds_of_reasons_that_there_are() -> None:
    assert {attribute.name: set(attribute.values) for attribute in CONNECTIONS_REFUSED.attributes} == {"error.type": set(Because)}


def test_a_refusal_says_of_what_kind_its_reason_is() -> None:
    reasons = [identify(each, TRUST) for each in ((), agent("Amsterdam"), chain("fedplane:status:one", authority="stranger"))]

    assert [each.because for each in reasons if isinstance(each, Refused)] == [Because.CERTIFICATE, Because.SUBJECT, Because.AUTHORITY]
