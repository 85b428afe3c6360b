"""greenlet on platform threads, with virtual threads beside them; in a virtual thread a
greenlet is refused (RuntimeError)."""

import _thread
import time

import virtual_threading
from greenlet import getcurrent, greenlet


def switches(pause):
    """Two greenlets take turns a hundred times."""
    log = []

    def count():
        for n in range(100):
            log.append(n)
            pause()
            parent.switch()

    parent = getcurrent()
    children = [greenlet(count), greenlet(count)]
    for _ in range(100):
        for child in children:
            child.switch()
    for child in children:
        child.switch()
    assert all(child.dead for child in children)
    assert log == [n for n in range(100) for _ in range(2)], log


def run_all(count):
    """On `count` platform threads, also where every threading.Thread is virtual."""
    results = []

    def run():
        try:
            switches(lambda: time.sleep(0.0001))
            results.append(None)
        except BaseException as exc:
            results.append(exc)

    handles = [_thread.start_joinable_thread(run) for _ in range(count)]
    for handle in handles:
        handle.join()
    assert results == [None] * count, results


def refused():
    try:
        greenlet(int)
    except RuntimeError as exc:
        log.append(str(exc))


log = []
switches(lambda: None)
beside = [virtual_threading.spawn(time.sleep, 0.001) for _ in range(1000)]
run_all(10)
for thread in beside:
    thread.join()
virtual_threading.spawn(refused).join()
assert len(log) == 1 and "virtual thread" in log[0], log
print("switched")
