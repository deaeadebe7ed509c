"""Open Cluster Management's placement: which clusters a Placement selects, computed exactly as its own scheduler does."""
