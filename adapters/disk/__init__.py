"""A folder on this machine's disk, or one that replicas share."""
