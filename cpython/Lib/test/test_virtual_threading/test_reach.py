"""What a thread does to others reaches virtual threads: asynchronous exceptions, and the
trace and profile functions of all threads.
"""

import gc
import queue
import sys
import threading
import unittest
import weakref
from _opcode_metadata import opmap

from test.support import import_helper
from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import Thread, spawn


class Stop(Exception):
    pass


class Object:
    pass


class AsyncExcTests(TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        ctypes = import_helper.import_module("ctypes")
        cls.set_async_exc = staticmethod(ctypes.PYFUNCTYPE(
            ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
            ("PyThreadState_SetAsyncExc", ctypes.pythonapi)))
        cls.null = ctypes.py_object()

    def setUp(self):
        super().setUp()
        self.items = queue.SimpleQueue()

    def get(self):
        """What the parked threads run."""
        try:
            self.items.get()
            return "went on"
        except Stop:
            return "stopped"

    def start(self, count=COUNT):
        """Threads that are parked in get(); and the list of its results."""
        results = []
        threads = [spawn(lambda: results.append(self.get())) for _ in range(count)]
        self.addCleanup(self.release, threads)
        self.wait_parked(threads)
        return threads, results

    def wait_parked(self, threads):
        self.wait_until(lambda: all(thread.state == "parked" for thread in threads),
                        "parked threads")

    def release(self, threads):
        while any(thread.is_alive() for thread in threads):
            for _ in threads:
                self.items.put(None)
            self.join(threads)

    def test_parked(self):
        threads, results = self.start()
        for thread in threads:
            self.assertEqual(self.set_async_exc(thread.ident, Stop), 1)
        # It does not wake them.
        self.assertEqual(self.call(int, "42"), 42)
        self.wait_parked(threads)
        self.assertEqual(results, [])
        self.release(threads)
        self.assertEqual(results, ["stopped"] * COUNT)

    def test_only_the_one(self):
        threads, results = self.start(3)
        self.assertEqual(self.set_async_exc(threads[1].ident, Stop), 1)
        self.release(threads)
        self.assertEqual(sorted(results), ["stopped", "went on", "went on"])

    def test_running(self):
        def run():
            try:
                started.set()
                while True:
                    pass
            except Stop:
                stopped.append(threading.get_ident())

        started = self.make_event()
        stopped = []
        thread = spawn(run)
        self.wait_for(started)
        self.assertEqual(self.set_async_exc(thread.ident, Stop), 1)
        self.join([thread])
        self.assertEqual(stopped, [thread.ident])

    def test_itself(self):
        def run():
            try:
                self.assertEqual(self.set_async_exc(threading.get_ident(), Stop), 1)
                while True:
                    pass
            except Stop:
                return "stopped"

        self.assertEqual(self.call(run), "stopped")

    def test_by_virtual_thread(self):
        threads, results = self.start(1)
        self.assertEqual(self.call(self.set_async_exc, threads[0].ident, Stop), 1)
        self.release(threads)
        self.assertEqual(results, ["stopped"])

    def test_taken_back(self):
        threads, results = self.start(1)
        self.assertEqual(self.set_async_exc(threads[0].ident, Stop), 1)
        self.assertEqual(self.set_async_exc(threads[0].ident, self.null), 1)
        self.release(threads)
        self.assertEqual(results, ["went on"])

    def test_reference(self):
        threads, _ = self.start(1)
        obj = Object()
        ref = weakref.ref(obj)
        self.assertEqual(self.set_async_exc(threads[0].ident, obj), 1)
        del obj
        gc.collect()
        self.assertIsNotNone(ref())
        self.assertEqual(self.set_async_exc(threads[0].ident, self.null), 1)
        gc.collect()
        self.assertIsNone(ref())
        self.release(threads)

    def test_not_found(self):
        thread = Thread(target=int)
        thread.start()
        self.join([thread])
        self.wait_until(lambda: not self.set_async_exc(thread.ident, self.null),
                        "the thread is gone")
        self.assertEqual(self.set_async_exc(thread.ident, Stop), 0)
        threads, _ = self.start(1)
        # In the struct of a thread, but no ident.
        self.assertEqual(self.set_async_exc(threads[0].ident + 8, Stop), 0)
        self.release(threads)


def traced():
    pass


# The interpreter itself reads states of threads that have ended: gh-137400.
crashes = sys.version_info < (3, 13, 10)


class AllThreadsMixin:
    """set_all(function) sets it in all threads; get() tells the caller's."""

    def setUp(self):
        super().setUp()
        self.seen = set()       # idents of threads that called traced()
        self.addCleanup(self.set_all, self.get_hook())

    def hook(self, frame, event, arg):
        if event == "call" and frame.f_code is traced.__code__:
            self.seen.add(threading.get_ident())

    def test_parked(self):
        def run():
            items.get()
            traced()
            return self.get()

        items = queue.SimpleQueue()
        hook = self.hook
        with self.blocked(run) as results:
            self.set_all(hook)
            for _ in range(COUNT):
                items.put(None)
        self.set_all(None)
        self.assertEqual(results, [hook] * COUNT)
        self.assertEqual(len(self.seen), COUNT)

    @unittest.skipIf(crashes, "gh-137400")
    def test_running(self):
        def run():
            while not stop.is_set():
                traced()
            found.append(self.get())

        stop = self.make_event()
        found = []
        threads = [spawn(run) for _ in range(4)]
        self.set_all(self.hook)
        self.wait_until(lambda: {thread.ident for thread in threads} <= self.seen,
                        "calls in all threads")
        self.set_all(None)
        stop.set()
        self.join(threads)
        self.assertEqual(found, [None] * 4)

    def test_caller(self):
        def run():
            self.set_all(hook)
            traced()
            inside = self.get()
            self.set_all(None)
            return threading.get_ident(), inside, self.get()

        hook = self.hook
        ident, inside, after = self.call(run)
        self.assertEqual((inside, after), (hook, None))
        self.assertEqual(self.seen, {ident})

    def test_references(self):
        class Hook:
            def __call__(self, frame, event, arg):
                pass

        items = queue.SimpleQueue()
        hook = Hook()
        ref = weakref.ref(hook)
        with self.blocked(items.get):
            self.set_all(hook)
            self.set_all(None)
            del hook
            gc.collect()
            self.assertIsNone(ref())
            # This one is dropped by the ends of the threads.
            hook = Hook()
            ref = weakref.ref(hook)
            self.set_all(hook)
            for _ in range(COUNT):
                items.put(None)
        self.set_all(None)
        del hook
        self.wait_until(lambda: gc.collect() >= 0 and ref() is None, "no references")

    @unittest.skipIf(crashes, "gh-137400")
    def test_threads_come_and_go(self):
        # When no thread has a function any more, no code stays instrumented.
        def instrumented():
            traced()
            return opmap['INSTRUMENTED_RESUME'] in traced.__code__._co_code_adaptive[::2]

        def run():
            while not stop.is_set():
                self.join([spawn(traced) for _ in range(10)])

        def no_more():
            self.set_all(None)
            return not instrumented()

        stop = self.make_event()
        threads = [spawn(run) for _ in range(2)]
        for _ in range(20):
            self.set_all(self.hook)
            self.assertTrue(instrumented())
            self.set_all(None)
        stop.set()
        self.join(threads)
        self.wait_until(no_more, "code that is not instrumented")


class TraceTests(AllThreadsMixin, TestCase):

    set_all = staticmethod(threading.settrace_all_threads)
    get_hook = staticmethod(threading.gettrace)
    get = staticmethod(sys.gettrace)

    def test_lines(self):
        def hook(frame, event, arg):
            if frame.f_code is not traced_lines.__code__:
                return None
            if event == "line":
                lines.append(frame.f_lineno - frame.f_code.co_firstlineno)
            return hook

        def traced_lines():
            items.get()
            items.get()

        def run():
            items.get()
            traced_lines()

        items = queue.SimpleQueue()
        lines = []
        with self.blocked(run, count=1):
            self.set_all(hook)
            for _ in range(3):
                items.put(None)
        self.set_all(None)
        self.assertEqual(lines, [1, 2])


class ProfileTests(AllThreadsMixin, TestCase):

    set_all = staticmethod(threading.setprofile_all_threads)
    get_hook = staticmethod(threading.getprofile)
    get = staticmethod(sys.getprofile)


class CalledByHookTests(TestCase):

    def test_called_by_hook(self):
        # It is instrumented before it runs: a thread that has no hook would do that meanwhile.
        def called():
            pass

        def hook(*args):
            if codes:
                return
            called()
            monitoring.set_events(monitoring.DEBUGGER_ID, monitoring.events.LINE)
            called()
            codes.append(called.__code__._co_code_adaptive[::2])
            monitoring.set_events(monitoring.DEBUGGER_ID, 0)

        codes = []
        monitoring = sys.monitoring
        monitoring.use_tool_id(monitoring.DEBUGGER_ID, "test")
        self.addCleanup(monitoring.free_tool_id, monitoring.DEBUGGER_ID)
        sys.setprofile(hook)
        sys.setprofile(None)
        self.assertIn(opmap['INSTRUMENTED_LINE'], codes[0])


if __name__ == "__main__":
    unittest.main()
