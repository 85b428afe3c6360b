"""N tasks parked on one event: bytes of RSS each, and of page tables.

Kernel memory of platform threads (16 KiB of stack each, task_struct) is in
neither figure.
"""

import asyncio
import gc
import threading

from common import arguments, result, thread_class


def memory():
    """(resident bytes, bytes of page tables) of this process."""
    with open("/proc/self/status") as file:
        kib = dict(line.split(":", 1) for line in file)
    return [int(kib[key].split()[0]) * 1024 for key in ("VmRSS", "VmPTE")]


def with_threads(cls, n):
    count = 0
    lock = threading.Lock()
    ready, go = threading.Event(), threading.Event()

    def park():
        nonlocal count
        with lock:
            count += 1
            last = count == n
        if last:
            ready.set()
        go.wait()

    first = cls(target=int)             # the runtime itself is no thread's cost
    first.start()
    first.join()
    gc.collect()
    before = memory()
    threads = [cls(target=park) for _ in range(n)]
    for thread in threads:
        thread.start()
    ready.wait()
    after = memory()
    go.set()
    for thread in threads:
        thread.join()
    return before, after


async def with_tasks(n):
    go = asyncio.Event()
    gc.collect()
    before = memory()
    tasks = [asyncio.create_task(go.wait()) for _ in range(n)]
    await asyncio.sleep(0)              # runs each of them up to its wait
    after = memory()
    go.set()
    await asyncio.gather(*tasks)
    return before, after


def main():
    peer, n = arguments()
    if peer == "asyncio":
        before, after = asyncio.run(with_tasks(n))
    else:
        before, after = with_threads(thread_class(peer), n)
    result(bytes=(after[0] - before[0]) / n,
           page_tables=(after[1] - before[1]) / n)


main()
