"""The mount's own door for commands: a socket, and what ``s3mount status``, ``wait`` and others ask there.

May import ``fs`` and what is below it. The commands themselves are in ``cli``, which asks through
``control.client``; only ``mount.py`` opens a server.
"""
