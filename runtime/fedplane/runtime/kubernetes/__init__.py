"""The objects of a real Kubernetes API server: the only place that knows the client library, its transport and its credentials.

`open_cluster` connects as a kubeconfig says, or as a pod of the cluster is told by its service account.
"""

from fedplane.runtime.kubernetes.cluster import KubernetesCluster, open_cluster
from fedplane.runtime.kubernetes.connection import Patience

__all__ = ["KubernetesCluster", "Patience", "open_cluster"]
