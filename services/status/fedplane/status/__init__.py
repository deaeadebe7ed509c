"""The status service: what is outwardly visible of every run."""
