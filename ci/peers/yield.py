"""Two tasks yield in turn, N times each: ns a yield."""

import asyncio
import os
import time

from common import arguments, result, thread_class


def with_threads(cls, pause, n):
    def loop():
        for _ in range(n):
            pause()

    threads = [cls(target=loop) for _ in range(2)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


async def with_tasks(n):
    async def loop():
        for _ in range(n):
            await asyncio.sleep(0)

    start = time.perf_counter()
    await asyncio.gather(loop(), loop())
    return time.perf_counter() - start


def main():
    peer, n = arguments()
    for count in n // 10, n:
        if peer == "asyncio":
            seconds = asyncio.run(with_tasks(count))
        elif peer == "threads":
            # The cheapest a platform thread has; on two cores nothing is
            # switched at all, the two threads run side by side.
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            seconds = with_threads(thread_class(peer), os.sched_yield, count)
        else:
            from virtual_threading import yield_now
            seconds = with_threads(thread_class(peer), yield_now, count)
    result(ns=seconds / (2 * n) * 1e9)


main()
