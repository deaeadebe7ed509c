"""What doctor says of a hub: kinds, our definition, rights; and that the rights are those which deploy/ grants."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from manifest_story import of_kind

from fedplane.cli.doctor import hub
from fedplane.cli.doctor.findings import Level, judge
from fedplane.runtime import kinds
from fedplane.runtime.observed import HubSeen, Right
from fedplane.schemas.crd import custom_resource_definition

SERVED = {version: frozenset(
    name for kind in hub.KINDS if kind.api_version == version for name in (kind.plural, f"{kind.plural}/status")
) for version in {kind.api_version for kind in hub.KINDS}}  # fmt: skip
RIGHTS = {(service, right): True for service, rights in hub.needed("fedplane").items() for right in rights}
SOUND = HubSeen("v1.33.1", SERVED, custom_resource_definition(), RIGHTS)


def wrong(seen: HubSeen) -> list[tuple[str, str, str]]:
    return [(found.check, found.level.value, found.what) for found in judge("hub", hub.CHECKS, seen) if found.level is not Level.OK]


def without(kind: Any) -> Mapping[str, frozenset[str]]:
    return {version: plurals - {kind.plural} if version == kind.api_version else plurals for version, plurals in SERVED.items()}


def definition_without(*path: str) -> dict[str, Any]:
    definition = deepcopy(custom_resource_definition())
    at = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path[:-1]:
        at = at["properties"][name]
    del at["properties"][path[-1]]
    return definition


def test_of_a_sound_hub_every_check_says_so() -> None:
    said = judge("hub", hub.CHECKS, SOUND)

    assert ({found.check for found in said}, {found.level for found in said}) == (set(hub.CHECKS), {Level.OK})


@pytest.mark.parametrize(
    ("seen", "check", "level", "what"),
    [
        (replace(SOUND, version="v1.24.9"), "version", "warning", "Kubernetes v1.24.9 drops rules that compare fields"),
        (
            replace(SOUND, served=without(kinds.FEDERATED_LEARNING), definition=None),
            "kinds", "problem", "no FederatedLearning can be applied: it does not serve FederatedLearning",
        ),
        (
            replace(SOUND, served=without(kinds.MANIFEST_WORK)),
            "kinds", "problem", "the hub has no clusters for runs: it does not serve ManifestWork",
        ),
        (
            replace(SOUND, definition=definition_without("spec", "rounds", "carry")),
            "definition", "problem", "the definition is another version's: spec.rounds.carry is missing",
        ),
        (
            replace(SOUND, definition=None, unseen={"definition": "forbidden"}),
            "definition", "warning", "our definition cannot be read: forbidden",
        ),
        (
            replace(SOUND, rights=RIGHTS | {("status", Right("patch", "", "events")): False}),
            "rights", "problem", "status may not patch events",
        ),
        (
            replace(SOUND, rights=RIGHTS | {("scheduler", Right("get", "route.openshift.io", "routes", "", "fedplane")): False}),
            "rights", "warning", "scheduler may not get routes.route.openshift.io, so runs cannot have such listeners",
        ),
        (replace(SOUND, rights={}, unseen={"rights": "forbidden"}), "rights", "warning", "who may do what cannot be asked: forbidden"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_one_finding_of_its_check(seen: HubSeen, check: str, level: str, what: str) -> None:
    ((found_check, found_level, said),) = wrong(seen)

    assert (found_check, found_level) == (check, level)
    assert said.startswith(what)


def test_routes_are_openshifts_and_missed_by_nobody_else() -> None:
    assert wrong(replace(SOUND, served=without(kinds.ROUTE))) == []


def test_a_field_of_another_type_is_told_with_both() -> None:
    definition = deepcopy(custom_resource_definition())
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["framework"]["type"] = "object"

    ((_, _, said),) = wrong(replace(SOUND, definition=definition))

    assert said == "the definition is another version's: spec.framework is object instead of string"


def test_doctor_asks_for_the_rights_that_deploy_grants() -> None:
    granted = {service: rules(f"fedplane-{service}", "ClusterRole", "") for service in ("scheduler", "status")}
    granted["scheduler"] |= rules("scheduler-listeners", "Role", "fedplane")

    assert {service: set(rights) for service, rights in hub.needed("fedplane").items()} == granted


def rules(name: str, kind: str, namespace: str) -> set[Right]:
    (role,) = (each for each in of_kind("base", kind) if each["metadata"]["name"] == name)
    return {
        Right(verb, group, *(resource.split("/") if "/" in resource else (resource, "")), namespace)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
