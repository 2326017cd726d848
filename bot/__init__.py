"""Who is plugged into whom, and what do we say? Wiring, commands, words. Nobody imports this."""
