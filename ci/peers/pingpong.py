"""A value goes to another task and back, N times: ns a switch (two a round)."""

import asyncio
import queue
import time

from common import arguments, result, thread_class


def with_threads(cls, n):
    there, back = queue.SimpleQueue(), queue.SimpleQueue()

    def ping():
        for _ in range(n):
            there.put(None)
            back.get()

    def pong():
        for _ in range(n):
            there.get()
            back.put(None)

    threads = [cls(target=ping), cls(target=pong)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


async def with_tasks(n):
    there, back = asyncio.Queue(), asyncio.Queue()

    async def ping():
        for _ in range(n):
            there.put_nowait(None)
            await back.get()

    async def pong():
        for _ in range(n):
            await there.get()
            back.put_nowait(None)

    start = time.perf_counter()
    await asyncio.gather(ping(), pong())
    return time.perf_counter() - start


def main():
    peer, n = arguments()
    for count in n // 10, n:
        if peer == "asyncio":
            seconds = asyncio.run(with_tasks(count))
        else:
            seconds = with_threads(thread_class(peer), count)
    result(ns=seconds / (2 * n) * 1e9)


main()
