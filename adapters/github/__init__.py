"""GitHub: App tokens, branches and pull requests, and the gate that every push goes through."""
