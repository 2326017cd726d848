"""Machines of Hetzner Cloud."""
