"""The plugs: what `core` needs from outside, each with its numbered promises."""
