"""Threads that yield in turn, N times each, below a number of frames: ns a yield.

PEER is KIND-DEPTH or KIND-DEPTH-CARRIERS.  The kinds: `python`, calls of a Python function;
`c`, each call by way of functools.reduce(), which is C; `asyncio`, coroutines that await one
another.  There are two threads a carrier, so that each yield is a switch.
"""

import asyncio
import functools
import sys
import time

from common import arguments, result


def with_threads(kind, depth, carriers, n):
    import virtual_threading
    virtual_threading.configure(parallelism=carriers)
    yield_now = virtual_threading.yield_now

    def loop():
        for _ in range(n):
            yield_now()

    def python(depth):
        if depth > 1:
            python(depth - 1)
        else:
            loop()

    def c(depth):
        # reduce() calls the function once, with the two items.
        if depth > 0:
            functools.reduce(lambda _, depth: c(depth - 1), (None, depth))
        else:
            loop()

    body = {"python": python, "c": c}[kind]
    threads = [virtual_threading.Thread(target=body, args=(depth,))
               for _ in range(2 * carriers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) / (len(threads) * n)


async def with_tasks(depth, n):
    async def loop():
        for _ in range(n):
            await asyncio.sleep(0)

    async def nested(depth):
        if depth > 1:
            await nested(depth - 1)
        else:
            await loop()

    start = time.perf_counter()
    await asyncio.gather(nested(depth), nested(depth))
    return (time.perf_counter() - start) / (2 * n)


def main():
    peer, n = arguments()
    kind, depth, carriers = (peer.split("-") + ["1"])[:3]
    sys.setrecursionlimit(10_000)
    for count in n // 10, n:
        if kind == "asyncio":
            seconds = asyncio.run(with_tasks(int(depth), count))
        else:
            seconds = with_threads(kind, int(depth), int(carriers), count)
    result(ns=seconds * 1e9)


main()
