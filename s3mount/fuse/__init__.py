"""The kernel's side. The only layer that imports pyfuse3: unpack, call ``fs``, pack, map errors.

May import: everything but ``mount``, ``config`` and ``cli``.
"""
