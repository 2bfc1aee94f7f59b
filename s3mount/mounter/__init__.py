"""What needs root: to mount, to tune the kernel's side of the mount, to look at other users' processes.

Three ways to have it, one interface (``base.Mounter``):

- ``kernel.KernelMount``: this process is root, and makes the system calls itself;
- ``client.Helper``: this process is not; a process of root's beside it does that and nothing else
  (``server``). It hands over the open ``/dev/fuse``, and unmounts when this process is gone;
- ``fusermount.Fusermount``: an ordinary user's mount, which fusermount3 makes.
"""
