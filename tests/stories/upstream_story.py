"""What upstream's users ask for, as its samples have it: the `spec` of each."""

import yaml

__all__ = ["SAMPLES"]

FLOWER = """
framework: flower
server: {image: quay.io/open-cluster-management/flower-app:cifar10-v1.0.0, minAvailableClients: 2}
client:
  image: quay.io/open-cluster-management/flower-app:cifar10-v1.0.0
  placement:
    clusterSets: [global]
    predicates:
    - requiredClusterSelector:
        labelSelector: {matchLabels: {feature.open-cluster-management.io/addon-flower-addon: available}}
"""

OPENFL = """
framework: openfl
server:
  image: <registry>/openfl-app:latest
  rounds: 3
  minAvailableClients: 2
  listeners: [{name: server-listener, port: 31531, type: NodePort}]
  storage: {type: PersistentVolumeClaim, name: model-pvc, path: /workspace/models, size: 2Gi}
client:
  image: <registry>/openfl-app:latest
  placement:
    clusterSets: [global]
    predicates:
    - requiredClusterSelector:
        claimSelector: {matchExpressions: [{key: federated-learning-sample.client-data, operator: Exists}]}
"""

BUCKET = """
server:
  rounds: 3
  minAvailableClients: 2
  listeners: [{name: server-listener, port: 8080, type: LoadBalancer}]
  storage: {type: S3Bucket, name: s3-pvc, path: /data/models, size: 2Gi, s3: {bucketName: B, region: us-east-1, prefix: models/round-1/}}
"""

SAMPLES = {name: yaml.safe_load(spec) for name, spec in {"flower": FLOWER, "openfl": OPENFL, "bucket": BUCKET}.items()}
