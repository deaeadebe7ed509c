"""Handwritten digits as a Flower app with a strategy of its own."""
