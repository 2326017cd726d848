"""The node link's server: what node agents dial."""
