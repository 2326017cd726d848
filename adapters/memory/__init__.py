"""Outside systems in a dictionary, for tests and simulations. Same promises, no network."""
