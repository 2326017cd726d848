"""What to do now: each object is looked at and brought one step closer. Pure functions."""
