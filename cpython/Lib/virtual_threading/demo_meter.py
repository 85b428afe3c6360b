"""The demo's instruments: what /proc says of this process, and a line of progress."""

import os
import sys
import threading
import time


def process_status():
    """Bytes of resident memory and number of OS threads of this process."""
    descriptor = os.open('/proc/self/status', os.O_RDONLY)
    try:
        lines = os.read(descriptor, 1 << 16).splitlines()
    finally:
        os.close(descriptor)
    found = dict(line.split(b':', 1) for line in lines)
    return int(found[b'VmRSS'].split()[0]) * 1024, int(found[b'Threads'])


class Meter:
    """Samples the process from a thread of its own and shows how far a phase has come.

    *count* is called for the number of things done, *total* is what it will come to.
    Progress goes to stderr: one changing line on a terminal, else a line every two
    seconds.  Memory and OS threads are the largest values seen.
    """

    def __init__(self, title, count, total):
        self._title = title
        self._count = count
        self._total = total
        self._stop = threading.Event()
        self._tty = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._run, name="demo meter")

    def __enter__(self):
        self.memory_before = self.memory = process_status()[0]
        self.os_threads = 0
        self._begin = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.seconds = time.monotonic() - self._begin
        self._stop.set()
        self._thread.join()
        self._show()
        if self._tty:
            print(file=sys.stderr, flush=True)

    def _run(self):
        shown = self._begin
        while not self._stop.wait(0.05):
            self.sample()
            now = time.monotonic()
            if now - shown >= (0.2 if self._tty else 2.0):
                shown = now
                self._show()

    def sample(self):
        memory, os_threads = process_status()
        self.memory = max(self.memory, memory)
        # Without the one that measures.
        self.os_threads = max(self.os_threads, os_threads - 1)

    def _show(self):
        line = (f"{self._title}: {self._count():,} of {self._total:,}, "
                f"{time.monotonic() - self._begin:.1f} s, "
                f"{self.os_threads:,} OS threads")
        start, end = ("\r", "") if self._tty else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)
