"""`python tether.py SIGNAL PARENT_PID PROGRAM ARGUMENT…`: become PROGRAM, and get SIGNAL when the parent dies.

A program of its own because a function run between fork and exec may deadlock in a process that has threads. Run by
its path, isolated (`python -I -S`), so it imports nothing of ours and costs about 15 ms.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    death_signal, parent = int(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before we asked to be told
            raise SystemExit(1)
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    main()
