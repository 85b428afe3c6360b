"""numpy from virtual threads: an unmodified wheel, its C frames under parked threads.

    PYTHON numpy_virtual.py            all cases, each line `ok NAME` or `FAIL NAME ...`
    PYTHON numpy_virtual.py NAME       one case, in this process

Frames of numpy are foreign: a thread that parks below them pins its carrier, and
the others must go on.  No case depends on how long anything takes.
"""

import queue
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import virtual_threading as vt

# Seconds a case.  Each takes less than one on an idle machine and has been seen to
# take a minute on one with twenty processes that want to run.
TIMEOUT = 300
THREADS = 200


def run(func, count=THREADS):
    """func(i) in count virtual threads; the list of results, or an error."""
    results = [None] * count
    errors = []

    def call(i):
        try:
            results[i] = func(i)
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [vt.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, f"{len(errors)} threads failed, the first:\n{errors[0]}"
    return results


def case_arithmetic():
    """Each thread's own arrays, with other threads between any two steps."""
    def work(i):
        assert vt.is_virtual()
        a = np.arange(400, dtype=float).reshape(20, 20) + i
        b = a.copy()
        for _ in range(20):
            vt.yield_now()
            b = (b @ a) / np.linalg.norm(b)
        return b

    expected = []
    for i in range(THREADS):
        a = np.arange(400, dtype=float).reshape(20, 20) + i
        b = a.copy()
        for _ in range(20):
            b = (b @ a) / np.linalg.norm(b)
        expected.append(b)
    for got, want in zip(run(work), expected, strict=True):
        np.testing.assert_allclose(got, want)


def case_sort_and_fft():
    rng = np.random.default_rng(5)
    data = rng.random((THREADS, 512))

    def work(i):
        row = data[i].copy()
        vt.yield_now()
        row.sort()
        vt.yield_now()
        return row, np.fft.irfft(np.fft.rfft(data[i]))

    for i, (row, same) in enumerate(run(work)):
        np.testing.assert_array_equal(row, np.sort(data[i]))
        np.testing.assert_allclose(same, data[i])


def case_callback_blocks():
    """A ufunc's Python callback waits: numpy's frames are below the wait."""
    def work(i):
        def slow(x):
            time.sleep(0.001)
            return x + i
        return np.frompyfunc(slow, 1, 1)(np.arange(5))

    for i, got in enumerate(run(work)):
        assert got.tolist() == [i, i + 1, i + 2, i + 3, i + 4]


def case_callbacks_wait_for_each_other():
    """More threads wait inside numpy than there are carriers, for one that is not."""
    count = 16
    inside = vt.Semaphore(0)
    go = vt.Event()

    def slow(x):
        inside.release()
        go.wait()
        return x

    def work(i):
        if i == count:                  # started last, must run all the same
            for _ in range(count):
                inside.acquire()
            go.set()
            return None
        return np.frompyfunc(slow, 1, 1)(np.array([i]))[0]

    assert run(work, count + 1)[:count] == list(range(count))


class Slow:
    """A number whose arithmetic and order let other threads run."""

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        vt.yield_now()
        return Slow(self.value + other.value)

    def __lt__(self, other):
        vt.yield_now()
        return self.value < other.value


def case_object_arrays():
    def work(i):
        values = [(7 * k + i) % 31 for k in range(31)]
        array = np.array([Slow(v) for v in values], dtype=object)
        array.sort()
        return [x.value for x in array], array.sum().value

    for ordered, total in run(work):
        assert ordered == list(range(31)) and total == sum(range(31))


def case_apply_along_axis():
    def work(i):
        def middle(row):
            vt.yield_now()
            return row[1] + i
        return np.apply_along_axis(middle, 1, np.arange(12).reshape(4, 3))

    for i, got in enumerate(run(work)):
        assert got.tolist() == [1 + i, 4 + i, 7 + i, 10 + i]


def case_errstate():
    """numpy keeps it in a context variable: it belongs to the thread."""
    def work(i):
        mode = "raise" if i % 2 else "ignore"
        for _ in range(20):
            with np.errstate(divide=mode):
                vt.yield_now()
                try:
                    np.ones(1) / np.zeros(1)
                except FloatingPointError:
                    assert mode == "raise"
                else:
                    assert mode == "ignore"
                vt.yield_now()
            assert np.geterr()["divide"] == "warn"

    run(work)


def case_shared_generator():
    """Its lock is a threading.Lock, held during the call."""
    rng = np.random.default_rng(1)

    def work(i):
        out = []
        for _ in range(10):
            out.extend(rng.integers(0, 2**62, 10).tolist())
            vt.yield_now()
        return out

    drawn = sorted(x for row in run(work) for x in row)
    again = np.random.default_rng(1).integers(0, 2**62, THREADS * 100)
    assert drawn == sorted(again.tolist())


def case_shared_array():
    shared = np.zeros((THREADS, 64), dtype=np.int64)

    def work(i):
        for _ in range(50):
            shared[i] += 1
            memoryview(shared)[i, 0] += 1
            vt.yield_now()

    run(work)
    assert (shared[:, 1:] == 50).all() and (shared[:, 0] == 100).all()


def case_pipeline():
    """Arrays made in one thread, used and dropped in another, platform ones too."""
    stages = [queue.SimpleQueue() for _ in range(4)]
    count = 500

    def stage(i):
        for _ in range(count):
            stages[i + 1].put(stages[i].get() + 1)

    threads = [vt.Thread(target=stage, args=(i,)) for i in range(2)]
    threads.append(threading.Thread(target=stage, args=(2,)))
    for thread in threads:
        thread.start()
    for n in range(count):
        stages[0].put(np.full(1000, n))
    for n in range(count):
        assert (stages[3].get() == n + 3).all()
    for thread in threads:
        thread.join()


def case_gil_stays_off():
    run(lambda i: np.arange(i).sum())
    assert not sys._is_gil_enabled()


CASES = {name[5:]: case for name, case in globals().copy().items()
         if name.startswith("case_")}


def main():
    if len(sys.argv) > 1:
        CASES[sys.argv[1]]()
        return 0
    failed = 0
    for name in CASES:
        command = [sys.executable, "-X", "faulthandler", __file__, name]
        child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        try:
            output = child.communicate(timeout=TIMEOUT)[0]
            status = child.returncode
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)       # faulthandler's dump
            output = child.communicate()[0]
            status = f"no end in {TIMEOUT} s"
        failed += status != 0
        print(f"ok {name}" if status == 0 else
              f"FAIL {name} ({status})\n{output[-4000:]}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
