"""Previews: what listens in a workspace, each port at an origin of its own."""
