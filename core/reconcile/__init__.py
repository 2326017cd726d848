"""Look at one object, plan, write, act through ports: one reconciler a kind of object.

Each is called with a claim and returns in how many seconds it wants to look again, None to be
parked until something wakes it. A crash at any await costs one more look.
"""
