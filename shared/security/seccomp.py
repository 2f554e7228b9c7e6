"""A seccomp filter for code that computes and nothing else: system calls that reach out of the process get EPERM.

It is a deny-list over what plain Python needs: no sockets (or, with `network`, internet ones only; `socketpair` stays
for streams, event loops use one), no processes and no programs, threads only, no outliving of the parent, no signals to
others, no look at or change of other processes, no io_uring (which opens sockets by itself), no namespaces, keys, bpf
or modules, and no change of a file's mode, owner, times or attributes. `man 2 seccomp`, `linux/filter.h`.
"""

import ctypes
import errno
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_OFFSET_SECOND_ARGUMENT = 24
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000

_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_CLONE3 = 435
_SOCKET = {"x86_64": 41, "aarch64": 198}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_AF_INET, _AF_INET6 = 2, 10
_SOCK_DATAGRAM_BIT = 2
_PR_SET_PDEATHSIG = 1
# name: (x86_64, aarch64)
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # What Landlock leaves open for any file whose path is known and whose owner we are.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "truncate": (76, 45),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "setsid": (112, 157),
    "setpgid": (109, 154),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def restrict(libc: ctypes.CDLL, machine: str, *, network: bool = False) -> bool:
    """Install the filter for this thread and all it starts; whether it worked. Needs `no_new_privs`."""
    if machine not in _AUDIT_ARCHITECTURE:
        return False
    code = b"".join(_instructions(machine, network=network))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _instructions(machine: str, *, network: bool) -> list[bytes]:
    refuse = _ERRNO | errno.EPERM
    column = 0 if machine == "x86_64" else 1
    denied = [number for row in _DENIED.values() if (number := row[column]) is not None]
    code = [
        _op(_LOAD, _OFFSET_ARCHITECTURE),
        # System calls of another architecture have other numbers: whoever makes one is not running Python.
        _op(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], if_true=1),
        _op(_RETURN, _KILL),
        _op(_LOAD, _OFFSET_NUMBER),
        _op(_JUMP_GREATER_EQUAL, _X32_BIT, if_false=1),
        _op(_RETURN, refuse),
        # clone3 hides its flags behind a pointer; told that it does not exist, the C library uses clone.
        _op(_JUMP_EQUAL, _CLONE3, if_false=1),
        _op(_RETURN, _ERRNO | errno.ENOSYS),
        # clone: threads only.
        _op(_JUMP_EQUAL, _CLONE[machine], if_false=4),
        _op(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _op(_JUMP_ANY_BIT, _CLONE_THREAD, if_false=1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, refuse),
        # prlimit: on itself only (pid 0).
        _op(_JUMP_EQUAL, _PRLIMIT[machine], if_false=4),
        _op(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _op(_JUMP_EQUAL, 0, if_false=1),
        _op(_RETURN, _ALLOW),
        _op(_RETURN, refuse),
        # prctl: the signal that ends this process with its parent stays.
        _op(_JUMP_EQUAL, _PRCTL[machine], if_false=4),
        _op(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _op(_JUMP_EQUAL, _PR_SET_PDEATHSIG, if_false=1),
        _op(_RETURN, refuse),
        _op(_RETURN, _ALLOW),
        # socketpair: streams only, since a datagram socket could be pointed at a socket that is a file.
        _op(_JUMP_EQUAL, _SOCKETPAIR[machine], if_false=4),
        _op(_LOAD, _OFFSET_SECOND_ARGUMENT),
        _op(_JUMP_ANY_BIT, _SOCK_DATAGRAM_BIT, if_false=1),
        _op(_RETURN, refuse),
        _op(_RETURN, _ALLOW),
        # socket: none, or those of the internet.
        _op(_JUMP_EQUAL, _SOCKET[machine], if_false=5),
        _op(_LOAD, _OFFSET_FIRST_ARGUMENT),
        _op(_JUMP_EQUAL, _AF_INET, if_true=2),
        _op(_JUMP_EQUAL, _AF_INET6, if_true=1),
        _op(_RETURN, refuse),
        _op(_RETURN, _ALLOW if network else refuse),
    ]
    for number in denied:
        code += [_op(_JUMP_EQUAL, number, if_false=1), _op(_RETURN, refuse)]
    return [*code, _op(_RETURN, _ALLOW)]


def _op(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One BPF instruction; jumps say how many of the following ones to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
