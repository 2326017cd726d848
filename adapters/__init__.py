"""How does one outside system speak? One folder each; adapters do not know each other."""
