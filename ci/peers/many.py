"""N virtual threads parked at once: bytes each, by part, and what it takes to start and wake them.

PEER is KIND-DEPTH: what they wait in (`lock`, one for all; `sleep`; `recv`, on a few thousand
sockets; `c`, the lock again, below a C function that calls Python; `sorted`, below one with much
on its stack), and how many Python frames deep.  A tenth of N, three tenths, and N are measured, each in a process of its own, since what
has ended leaves memory that the next ones use; waking them should take a time in
proportion to their number.  Where memory is short it does not begin, and says so.

The parts, in bytes a thread:

    object      the Thread, its handle, and what malloc() gave to both: the handle's state, and a
                record of what to call.  As threads have it that have no frames but in the struct
    struct      thread state, first frames, what it waits for: the distance of two idents
    frames      malloc()'s bytes beyond that: further chunks of the data stack, and entry frames
                below C functions.  (Whatever else the runtime allocates would be seen here)
    image       what native stacks that are frozen take in the heap
    stacks      a page for each stack that is not
    own         of this program: the slot of a list, the number that a thread is given, and the
                method that `with` keeps
    rest        what is left of RSS: malloc()'s and mimalloc's free memory, the second pages of
                stacks, structs of stacks, objects on the frames of `c`
    page_tables     not in RSS
"""

import ctypes
import functools
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

import virtual_threading

from common import arguments, result

SOCKET_PAIRS = 8000
# What must be free for a thread: its RSS, and a tenth for whatever else the machine does.
BYTES_NEEDED = {"lock": 1_850, "sleep": 1_850, "recv": 1_850, "c": 5_700, "sorted": 9_000}
BYTES_A_FRAME = 250
STARTS_A_SECOND = 20_000            # far fewer than there are
STACKS_THAT_STAY = 17_000           # the pool's budget, and some that are being looked at
SHARES = {"tenth_": 0.1, "third_": 0.3, "": 1}
ALONE = "MANY_ALONE"                # in the environment of the processes that measure
CALIBRATIONS = 5
CALIBRATION_THREADS = 1_000


class MallocInfo(ctypes.Structure):
    """mallinfo2(3)."""
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]


c_library = ctypes.CDLL(None)
c_library.mallinfo2.restype = MallocInfo
M_MMAP_THRESHOLD = -3


def read(path, *keys):
    with open(path) as file:
        kib = dict(line.split(":", 1) for line in file)
    return [int(kib[key].split()[0]) * 1024 for key in keys]


def small_blocks():
    """Bytes that malloc() has given out, but for mappings: the slabs of structs are those."""
    return c_library.mallinfo2().uordblks


def block(size):
    """Bytes that a Python object of this size takes: mimalloc's steps at 128 bytes and less."""
    return -(-size // 16) * 16


class Lock:
    def __init__(self, n):
        self.lock = threading.Lock()
        self.lock.acquire()

    def wait(self, i):
        with self.lock:
            pass

    def wake(self):
        self.lock.release()

    def own_bytes(self):
        return block(sys.getsizeof(self.lock.__exit__))


class BelowC(Lock):
    def wait(self, i):
        functools.reduce(lambda _, i: Lock.wait(self, i), (None, i))


class BelowSorted(Lock):
    """Its C function has an array of 2 KB on the stack."""

    def wait(self, i):
        sorted((i,), key=lambda i: Lock.wait(self, i))


class Sleep:
    def __init__(self, n):
        self.end = time.monotonic() + 5 + n / STARTS_A_SECOND

    def wait(self, i):
        time.sleep(self.end - time.monotonic())

    def wake(self):
        pass

    def own_bytes(self):
        return 0


class Recv:
    def __init__(self, n):
        self.pairs = [socket.socketpair() for _ in range(min(n, SOCKET_PAIRS))]
        self.each = -(-n // len(self.pairs))

    def wait(self, i):
        self.pairs[i % len(self.pairs)][0].recv(1)

    def wake(self):
        for _, end in self.pairs:
            end.send(b"x" * self.each)

    def own_bytes(self):
        return 0


KINDS = {"lock": Lock, "sleep": Sleep, "recv": Recv, "c": BelowC, "sorted": BelowSorted}


def settle():
    """Until all are parked, and those stacks frozen that will be."""
    while True:
        stats = virtual_threading.stats()
        if (stats["threads"]["parked"] == stats["started"] - stats["finished"]
                and stats["stacks_resident"] <= STACKS_THAT_STAY):
            return stats
        time.sleep(0.1)


def thread_bytes():
    """Of objects, of malloc() for them, and of the struct, which holds the only frame of these."""
    receiver, sender = socket.socketpair()

    def body():
        receiver.recv(1)

    threads = []
    blocks = []
    # In some of them the runtime makes OS threads, or frees what others have left.
    for _ in range(CALIBRATIONS):
        before = small_blocks()
        for _ in range(CALIBRATION_THREADS):
            threads.append(virtual_threading.Thread(target=body))
            threads[-1].start()
        settle()
        blocks.append((small_blocks() - before) / CALIBRATION_THREADS)
    objects = sum(block(sys.getsizeof(o)) for o in (threads[0], threads[0]._handle))
    idents = sorted(thread.ident for thread in threads)
    struct = min(b - a for a, b in zip(idents, idents[1:]))
    sender.sendall(b"x" * len(threads))
    for thread in threads:
        thread.join()
    return objects, round(statistics.median(blocks)), struct


def run(kind, depth, n):
    def body(i, depth):
        if depth > 1:
            body(i, depth - 1)
        else:
            waits.wait(i)

    gc.collect()
    waits = KINDS[kind](n)
    before = read("/proc/self/status", "VmRSS", "VmPTE")
    small_before = small_blocks()
    start = time.perf_counter()
    threads = [virtual_threading.Thread(target=body, args=(i, depth)) for i in range(n)]
    for thread in threads:
        thread.start()
    stats = settle()
    started = time.perf_counter()
    after = read("/proc/self/status", "VmRSS", "VmPTE")
    small = (small_blocks() - small_before) / n
    if kind == "sleep":
        time.sleep(max(0, waits.end - time.monotonic()))
    wake, wake_cpu = time.perf_counter(), time.process_time()
    waits.wake()
    for thread in threads:
        thread.join()
    woken, woken_cpu = time.perf_counter(), time.process_time()

    del threads, thread
    # Not before: what these leave would serve the others.
    objects, blocks, struct = thread_bytes()
    image = stats["image_bytes"] / n
    parts = {
        "object": objects + blocks,
        "struct": struct,
        "frames": small - blocks - image,
        "image": image,
        "stacks": stats["stacks_resident"] * os.sysconf("SC_PAGE_SIZE") / n,
        "own": 8 + block(sys.getsizeof(n)) + waits.own_bytes(),
    }
    rss = (after[0] - before[0]) / n
    return {"bytes": rss, **parts, "rest": rss - sum(parts.values()),
            "page_tables": (after[1] - before[1]) / n,
            "start_us": (started - start) / n * 1e6,
            "wake_us": (woken - wake) / n * 1e6,
            "wake_cpu_us": (woken_cpu - wake_cpu) / n * 1e6}


def alone(kind, depth, n):
    # Or what malloc() takes for a mapping grows with the largest one that was freed.
    c_library.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    virtual_threading.spawn(int).join()         # the runtime itself is no thread's cost
    result(**run(kind, depth, n))


def main():
    peer, n = arguments()
    kind, _, depth = peer.partition("-")
    depth = int(depth)
    if ALONE in os.environ:
        alone(kind, depth, n)
        return
    needed = n * (BYTES_NEEDED[kind] + BYTES_A_FRAME * depth)
    available, = read("/proc/meminfo", "MemAvailable")
    if available < needed:
        sys.exit(f"{n:,} threads need {needed / 1e9:.1f} GB of memory,"
                 f" {available / 1e9:.1f} GB are free")
    figures = {}
    for name, share in SHARES.items():
        done = subprocess.run(
            [sys.executable, __file__, peer, str(max(1, int(n * share)))],
            env=os.environ | {ALONE: "1"}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True)
        if done.returncode:
            sys.exit(done.stderr.strip())
        figures[name] = json.loads(done.stdout.splitlines()[-1])
    result(**figures[""], **{name + key: figures[name][key] for name in SHARES if name
                             for key in ("wake_us", "wake_cpu_us")})


main()
