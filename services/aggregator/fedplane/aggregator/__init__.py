"""The aggregator: owns rounds. Collects weighted updates round by round and folds them into the next model, in any number of replicas."""
