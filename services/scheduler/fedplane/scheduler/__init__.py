"""The scheduler: which clusters take part in a run, and why the others do not."""
