"""The authorizer: who a connection is, and what exactly it may publish and hear. See ADR 0019."""
