"""The component that has the status service serve the page, as `kubectl kustomize` builds it."""

from manifest_story import Manifest, built_in, container, matches

from fedplane.status.settings import StatusSettings

OBJECTS = built_in("""
namespace: fedplane
resources: [DEPLOY/overlays/production]
components: [DEPLOY/components/hub, DEPLOY/components/page]
""")


def the(kind: str, name: str) -> Manifest:
    (found,) = (each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def test_the_service_leads_to_the_port_at_which_the_status_service_is_told_to_serve_the_page() -> None:
    status, service = the("Deployment", "status"), the("Service", "page")["spec"]
    told = {each["name"]: each.get("value") for each in container(status)["env"]}
    ports = {each["name"]: each["containerPort"] for each in container(status)["ports"]}

    settings = StatusSettings(page_port=told["FEDPLANE_PAGE_PORT"], page_host=told["FEDPLANE_PAGE_HOST"])

    assert (settings.page_port, settings.page_host, told["FEDPLANE_KUBERNETES"]) == (ports["page"], "0.0.0.0", "in-cluster")
    assert matches({"matchLabels": service["selector"]}, status["spec"]["template"]["metadata"]["labels"])
    assert [each["targetPort"] for each in service["ports"]] == ["page"]
    assert (service.get("type", "ClusterIP"), service["sessionAffinity"]) == ("ClusterIP", "ClientIP"), (
        "nobody outside reaches it by itself"
    )


def test_only_namespaces_with_the_label_reach_the_page_and_nothing_else_of_the_status_service() -> None:
    status = the("Deployment", "status")["spec"]["template"]["metadata"]["labels"]
    policies = [each["spec"] for each in OBJECTS if each["kind"] == "NetworkPolicy" and matches(each["spec"]["podSelector"], status)]
    into = [rule for policy in policies if "Ingress" in policy["policyTypes"] for rule in policy.get("ingress", ())]

    assert into == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"fedplane.io/shows-page": "true"}}}],
            "ports": [{"port": 8081}],
        }
    ]


def test_without_the_component_nothing_listens() -> None:
    assert StatusSettings().page_port is None
    assert "FEDPLANE_PAGE_PORT" not in str(built_in("resources: [DEPLOY/overlays/production]"))
