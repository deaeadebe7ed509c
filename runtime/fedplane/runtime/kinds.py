"""The kinds of objects that services meet on a hub: ours, Open Cluster Management's, and the few of Kubernetes itself that they need.

A table, so that a group or a plural is written once. Source: the CRDs of open-cluster-management-io/api, version 1.3.
A Route is OpenShift's.
"""

from fedplane.runtime.objects import Kind
from fedplane.schemas.crd import GROUP, PLURAL, VERSION
from fedplane.schemas.resources import KIND

__all__ = [
    "ADD_ON_PLACEMENT_SCORE", "CONFIG_MAP", "EVENT", "FEDERATED_LEARNING", "INGRESS", "JOB", "MANAGED_CLUSTER", "MANAGED_CLUSTER_SET",
    "MANAGED_CLUSTER_SET_BINDING", "MANIFEST_WORK", "NAMESPACE", "NODE", "PERSISTENT_VOLUME_CLAIM", "PLACEMENT",
    "PLACEMENT_DECISION", "ROUTE", "SERVICE",
]  # fmt: skip

_CLUSTERS, _WORK = "cluster.open-cluster-management.io", "work.open-cluster-management.io"

FEDERATED_LEARNING = Kind(GROUP, VERSION, KIND, PLURAL)

MANAGED_CLUSTER = Kind(_CLUSTERS, "v1", "ManagedCluster", "managedclusters", namespaced=False)
MANAGED_CLUSTER_SET = Kind(_CLUSTERS, "v1beta2", "ManagedClusterSet", "managedclustersets", namespaced=False)
MANAGED_CLUSTER_SET_BINDING = Kind(_CLUSTERS, "v1beta2", "ManagedClusterSetBinding", "managedclustersetbindings")
PLACEMENT = Kind(_CLUSTERS, "v1beta1", "Placement", "placements")
PLACEMENT_DECISION = Kind(_CLUSTERS, "v1beta1", "PlacementDecision", "placementdecisions")
ADD_ON_PLACEMENT_SCORE = Kind(_CLUSTERS, "v1alpha1", "AddOnPlacementScore", "addonplacementscores")
MANIFEST_WORK = Kind(_WORK, "v1", "ManifestWork", "manifestworks")

CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", has_status=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
EVENT = Kind("", "v1", "Event", "events", has_status=False)
JOB = Kind("batch", "v1", "Job", "jobs")
PERSISTENT_VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE = Kind("", "v1", "Service", "services")
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
INGRESS = Kind("networking.k8s.io", "v1", "Ingress", "ingresses")
ROUTE = Kind("route.openshift.io", "v1", "Route", "routes")
