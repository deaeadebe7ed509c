"""The status service: what is outwardly visible of every run, and what is left of it when it has ended."""
