"""A hundred threads make N calls that can't park: by hand-off, or in helper threads.

    files.py CALL-HOW N

CALL is nothing, read (4 KB that are cached), resolve (localhost) or fsync (of 4 KB).  HOW is
handoff (the call as it is), offload (eight threads of a ThreadPoolExecutor, while the virtual
thread parks) or threads (a hundred platform threads, as it is).  Between two calls each
thread makes and drops some objects.  One more thread sleeps for a millisecond at a time: how late
it is says whether calls hold up those that do not make any.
"""

import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from common import result

THREADS = 100
HELPERS = 8
CALLS = {
    "nothing": lambda fd: None,
    "read": lambda fd: os.pread(fd, 4096, 0),
    "resolve": lambda fd: socket.getaddrinfo("localhost", 80),
    "fsync": lambda fd: (os.pwrite(fd, b"x" * 4096, 0), os.fsync(fd)),
}


def main():
    name, how = sys.argv[1].split("-")
    count = int(sys.argv[2]) // THREADS
    call, cls = CALLS[name], threading.Thread
    if how != "threads":
        import virtual_threading
        cls = virtual_threading.Thread
    helpers = ThreadPoolExecutor(HELPERS)
    late, ended = [], threading.Event()

    def work():
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(b"x" * 4096)
            fd = file.fileno()
            for _ in range(count):
                if how == "offload":
                    helpers.submit(call, fd).result()
                else:
                    call(fd)
                {n: [n] for n in range(100)}

    def tick():
        while not ended.is_set():
            due = time.perf_counter() + 0.001
            time.sleep(0.001)
            late.append(time.perf_counter() - due)

    threads = [cls(target=work) for _ in range(THREADS)]
    ticker = cls(target=tick)
    ticker.start()
    start, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    ended.set()
    ticker.join()
    result(per_second=THREADS * count / seconds, cpu_us=cpu / (THREADS * count) * 1e6,
           late_p99_ms=statistics.quantiles(late, n=100)[98] * 1e3)


main()
