"""unicode_eq: threads intern strings that are equal."""

import sys
import threading

THREADS = 4


def work():
    barrier.wait()
    for i in range(10_000):
        sys.intern("interned_" + str(i))


barrier = threading.Barrier(THREADS)
threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
