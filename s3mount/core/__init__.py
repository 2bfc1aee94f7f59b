"""Pure decisions: sync, standard library only, no clock, no files, no logging.

May import: ``s3mount.errors`` and its own modules.
"""
