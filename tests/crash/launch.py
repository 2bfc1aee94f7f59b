"""Become a program whose chosen system calls wait for a word from :mod:`tests.crash.syscalls`.

A script of its own, which imports nothing of the tests: ``launch.py SOCKET NUMBERS COMMAND...`` puts
a seccomp filter over itself that stops every system call of one of NUMBERS (commas between), tells the
supervisor that listens at SOCKET where to take the filter's other end from, and becomes COMMAND.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys

#: (audit architecture, number of seccomp(2)): from the kernel's include/uapi/linux/audit.h and its tables.
MACHINES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}

# include/uapi/linux/seccomp.h and bpf_common.h
SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
RET_ALLOW, RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
OFFSET_NUMBER, OFFSET_ARCHITECTURE = 0, 4


def program(architecture: int, numbers: list[int]) -> bytes:
    """Return the filter: those *numbers* of that architecture stop, all else passes."""
    last = len(numbers) + 3
    lines = [
        (LOAD_WORD, 0, 0, OFFSET_ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, last - 2, architecture),
        (LOAD_WORD, 0, 0, OFFSET_NUMBER),
    ]
    lines += [(JUMP_IF_EQUAL, last - place, 0, number) for place, number in enumerate(numbers, 3)]
    lines += [(RETURN, 0, 0, RET_ALLOW), (RETURN, 0, 0, RET_USER_NOTIF)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def install(numbers: list[int]) -> int:
    """Put the filter over this process; return the descriptor of its other end. Raises: OSError."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))

    architecture, seccomp = MACHINES[platform.machine()]
    lines = program(architecture, numbers)
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(
        seccomp, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(Program(len(lines) // 8, lines))
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return int(found)


def main() -> None:
    """Do as the arguments say."""
    address, numbers, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(address)
        # From the filter on, sending stops as well; so the supervisor is told before.
        free = os.dup(0)
        os.close(free)
        talk.sendall(struct.pack("i", free))
        listener = install([int(number) for number in numbers.split(",")])
        if listener != free or talk.recv(1) != b"!":
            sys.exit("nobody supervises this process")
    os.close(listener)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
