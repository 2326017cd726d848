"""Anthropic: the model proxy that workspaces talk to, and triage by a small model."""
