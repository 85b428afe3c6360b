"""Start N tasks that do nothing, and join them: tasks a second."""

import asyncio
import time

from common import arguments, result, thread_class


def noop():
    pass


async def async_noop():
    pass


def with_threads(cls, n):
    threads = [None] * n
    start = time.perf_counter()
    for i in range(n):
        threads[i] = thread = cls(target=noop)
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


async def with_tasks(n):
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            group.create_task(async_noop())
    return time.perf_counter() - start


def main():
    peer, n = arguments()
    for count in n // 10, n:            # the first one warms up
        if peer == "asyncio":
            seconds = asyncio.run(with_tasks(count))
        else:
            seconds = with_threads(thread_class(peer), count)
    result(per_second=n / seconds)


main()
