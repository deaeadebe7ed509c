"""A cluster's collaborator: it hears what runs ask, has the user's app answer, and sends what came of it."""
