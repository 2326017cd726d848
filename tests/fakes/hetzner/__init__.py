"""A stand-in for Hetzner Cloud, held against the vendor's own description of its API."""
