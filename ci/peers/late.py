"""Ten tasks sleep for a millisecond at a time beside N that compute: how late they are.

They do so for WARM_UP seconds, in which each of the N has its first time slice, and then for
SECONDS that count.  Those that compute share no object that has a lock (a closure's cell has
one): who has waited for a lock goes before who has used a time slice, as the sleepers do.
"""

import statistics
import threading
import time

from common import arguments, result, thread_class

SLEEPERS = 10
WARM_UP, SECONDS = 2, 4

late, begun, ended = [], threading.Event(), threading.Event()
begin = 0.0


def compute():
    begun.wait()
    while not ended.is_set():
        sum(range(100))


def sleep():
    begun.wait()
    while (now := time.perf_counter()) < begin + SECONDS:
        time.sleep(0.001)
        if now >= begin:
            late.append(time.perf_counter() - now - 0.001)


def main():
    global begin
    peer, n = arguments()
    cls = thread_class(peer)
    computing = [cls(target=compute) for _ in range(n)]
    sleeping = [cls(target=sleep) for _ in range(SLEEPERS)]
    for thread in computing + sleeping:
        thread.start()
    begin = time.perf_counter() + WARM_UP
    begun.set()
    for thread in sleeping:
        thread.join()
    ended.set()
    for thread in computing:
        thread.join()
    result(p50_ms=statistics.median(late) * 1e3,
           p99_ms=statistics.quantiles(late, n=100)[98] * 1e3)


main()
