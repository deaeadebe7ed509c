"""The authorizer: who a connection is, and what exactly it may publish and hear. No process starts it yet; see ADR 0019."""
