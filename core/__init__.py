"""What should happen? Nouns, their states, the decisions, the loop, the ports. No I/O."""
