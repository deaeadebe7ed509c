"""Tumours as a Flower app with secure aggregation."""
