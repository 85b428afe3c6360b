"""The demo's second half, a process of its own: threads that sleep and count.

    python -m virtual_threading.demo_sleep COUNT

Each thread sleeps and then adds one to a number.  They sleep for so long that all of
them are asleep at one moment, which is when the memory is looked at.  The result is a
JSON object on stdout.
"""

import gc
import json
import sys
import threading
import time

import virtual_threading
from virtual_threading.demo_meter import Meter, process_status


def main(total):
    lock = threading.Lock()
    counted = 0

    def sleep_and_count(seconds):
        nonlocal counted
        time.sleep(seconds)
        with lock:
            counted += 1

    def start(count, seconds):
        return [virtual_threading.spawn(sleep_and_count, seconds)
                for _ in range(count)]

    # How long does starting take?
    begin = time.monotonic()
    trial = min(total, 2000)
    for thread in start(trial, 0.01):
        thread.join()
    seconds = 1.0 + 2 * (time.monotonic() - begin) * total / trial
    counted = 0
    gc.collect()

    before = process_status()[0]
    with Meter("sleeping threads that woke up", lambda: counted, total) as meter:
        begin = time.monotonic()
        threads = start(total, seconds)
        starting = time.monotonic() - begin
        asleep = sum(map(virtual_threading.Thread.is_alive, threads))
        memory = process_status()[0] - before
        for thread in threads:
            thread.join()
    stats = virtual_threading.stats()
    json.dump({
        'threads': total,
        'counted': counted,
        'asleep': asleep,
        'sleep': seconds,
        'starting': starting,
        'seconds': meter.seconds,
        'memory_a_thread': memory / max(asleep, 1),
        'carriers': stats['carriers'],
        'os_threads': meter.os_threads,
    }, sys.stdout)


if __name__ == '__main__':
    import signal
    signal.signal(signal.SIGUSR1, lambda *args: virtual_threading.dump())
    main(int(sys.argv[1]))
