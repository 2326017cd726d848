"""Rescue copies: one file that holds a workspace whole, and putting it back.

`capture` and `restore` work from the host side, through folder descriptors that never follow a
link. Nothing in a container is asked, so a copy can be made of one that is stopped, broken or gone,
and no image has to bring a tool. git never runs in the working tree: the objects that a workspace
made are copied into a bare repository of ours, where git may read them.
"""
