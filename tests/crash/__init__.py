"""Daemons are killed and disks lose power at chosen system calls; a manifest says what must be left."""
