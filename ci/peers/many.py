"""N virtual threads parked at once: bytes each, and what it takes to start and to wake them.

PEER is KIND-DEPTH: what they wait in (`lock`, one for all; `sleep`; `recv`, on a few thousand
sockets; `c`, the lock again, below a C function that calls Python), and how many Python
frames deep.  A tenth of N goes first, so that the figures of both show whether waking them takes a
time in proportion to their number.  Where memory is short it does not begin, and says so.
"""

import functools
import gc
import socket
import sys
import threading
import time

import virtual_threading

from common import arguments, result

SOCKET_PAIRS = 8000
# What must be free for a thread: its RSS, and a tenth for whatever else the machine does.
BYTES_NEEDED = {"lock": 1_650, "sleep": 1_650, "recv": 1_650, "c": 5_000}
BYTES_A_FRAME = 200
STARTS_A_SECOND = 20_000            # far fewer than there are
STACKS_THAT_STAY = 17_000           # the pool's budget, and some that are being looked at


def read(path, *keys):
    with open(path) as file:
        kib = dict(line.split(":", 1) for line in file)
    return [int(kib[key].split()[0]) * 1024 for key in keys]


class Lock:
    def __init__(self, n):
        self.lock = threading.Lock()
        self.lock.acquire()

    def wait(self, i):
        with self.lock:
            pass

    def wake(self):
        self.lock.release()


class BelowC(Lock):
    def wait(self, i):
        functools.reduce(lambda _, i: Lock.wait(self, i), (None, i))


class Sleep:
    def __init__(self, n):
        self.end = time.monotonic() + 5 + n / STARTS_A_SECOND

    def wait(self, i):
        time.sleep(self.end - time.monotonic())

    def wake(self):
        pass


class Recv:
    def __init__(self, n):
        self.pairs = [socket.socketpair() for _ in range(min(n, SOCKET_PAIRS))]
        self.each = -(-n // len(self.pairs))

    def wait(self, i):
        self.pairs[i % len(self.pairs)][0].recv(1)

    def wake(self):
        for _, end in self.pairs:
            end.send(b"x" * self.each)


KINDS = {"lock": Lock, "sleep": Sleep, "recv": Recv, "c": BelowC}


def settle():
    """Until all are parked, and those stacks frozen that will be."""
    while True:
        stats = virtual_threading.stats()
        if (stats["threads"]["parked"] == stats["started"] - stats["finished"]
                and stats["stacks_resident"] <= STACKS_THAT_STAY):
            return
        time.sleep(0.1)


def run(kind, depth, n):
    def body(i, depth):
        if depth > 1:
            body(i, depth - 1)
        else:
            waits.wait(i)

    gc.collect()                # the descriptors of the run before, too
    waits = KINDS[kind](n)
    before = read("/proc/self/status", "VmRSS", "VmPTE")
    start = time.perf_counter()
    threads = [virtual_threading.Thread(target=body, args=(i, depth)) for i in range(n)]
    for thread in threads:
        thread.start()
    settle()
    started = time.perf_counter()
    after = read("/proc/self/status", "VmRSS", "VmPTE")
    object_bytes = sys.getsizeof(threads[0]) + sys.getsizeof(threads[0]._handle)
    if kind == "sleep":
        time.sleep(max(0, waits.end - time.monotonic()))
    wake = time.perf_counter()
    waits.wake()
    for thread in threads:
        thread.join()
    return {"bytes": (after[0] - before[0]) / n, "object": object_bytes,
            "page_tables": (after[1] - before[1]) / n,
            "start_us": (started - start) / n * 1e6,
            "wake_us": (time.perf_counter() - wake) / n * 1e6}


def main():
    peer, n = arguments()
    kind, _, depth = peer.partition("-")
    depth = int(depth)
    needed = n * (BYTES_NEEDED[kind] + BYTES_A_FRAME * depth)
    available, = read("/proc/meminfo", "MemAvailable")
    if available < needed:
        sys.exit(f"{n:,} threads need {needed / 1e9:.1f} GB of memory,"
                 f" {available / 1e9:.1f} GB are free")
    virtual_threading.spawn(int).join()         # the runtime itself is no thread's cost
    tenth = run(kind, depth, n // 10)
    result(**run(kind, depth, n), tenth_wake_us=tenth["wake_us"])


main()
