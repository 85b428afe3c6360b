"""The module threading knows virtual threads; virtual_threading stands in for it."""

import io
import pickle
import sys
import threading
import unittest
from test import support
from test.support.script_helper import assert_python_ok

import virtual_threading
from test.test_virtual_threading.util import TestCase
from virtual_threading import Thread, spawn


class KnownTests(TestCase):

    def test_current_thread(self):
        thread = Thread(target=lambda: seen.append(threading.current_thread()))
        seen = []
        thread.start()
        self.join([thread])
        self.assertIs(seen[0], thread)
        self.assertIs(threading.current_thread(), threading.main_thread())

    def test_current_thread_of_falsy_class(self):
        class Falsy(Thread):
            def __bool__(self):
                return False

            def run(self):
                self.seen = threading.current_thread()

        thread = Falsy()
        thread.start()
        self.join([thread])
        self.assertIs(thread.seen, thread)

    def test_enumerate(self):
        before = threading.active_count()
        event = self.make_event()
        threads = [spawn(event.wait) for _ in range(20)]
        self.assertLessEqual(set(threads), set(threading.enumerate()))
        self.assertEqual(threading.active_count(), before + 20)
        self.assertEqual(len(threading.enumerate()), before + 20)
        event.set()
        self.join(threads)
        self.wait_until(lambda: threading.active_count() == before, "threads gone")
        self.assertFalse(set(threads) & set(threading.enumerate()))

    def test_is_virtual(self):
        is_virtual = virtual_threading.is_virtual
        self.assertFalse(is_virtual())
        self.assertFalse(is_virtual(threading.main_thread()))
        self.assertFalse(is_virtual(threading.current_thread()))
        self.assertTrue(is_virtual(Thread()))
        self.assertTrue(self.call(is_virtual))
        self.assertFalse(self.call(is_virtual, threading.main_thread()))
        self.assertRaises(TypeError, is_virtual, 1)
        thread = spawn(int)
        self.join([thread])
        self.assertTrue(is_virtual(thread))

    def test_main_thread(self):
        self.assertIs(self.call(threading.main_thread), threading.main_thread())

    def test_excepthook(self):
        seen = []
        threading.excepthook = lambda args: seen.append((args.exc_type, args.thread))
        thread = spawn(int, "x")
        self.join([thread])
        self.assertEqual(seen, [(ValueError, thread)])

    def test_excepthook_that_raises(self):
        def hook(args):
            raise KeyError("of the hook")

        threading.excepthook = hook
        with support.captured_stderr() as stderr:
            self.join([spawn(int, "x")])
        self.assertIn("Exception in threading.excepthook:", stderr.getvalue())
        self.assertIn("of the hook", stderr.getvalue())

    def test_default_excepthook(self):
        threading.excepthook = threading.__excepthook__

        def fail():
            raise ValueError("what went wrong")

        with support.captured_stderr() as stderr:
            thread = Thread(target=fail, name="a name")
            thread.start()
            self.join([thread])
        lines = stderr.getvalue().splitlines()
        self.assertEqual(lines[0], "Exception in thread a name:")
        self.assertEqual(lines[1], "Traceback (most recent call last):")
        self.assertEqual(lines[-1], "ValueError: what went wrong")

    def test_system_exit_is_ignored(self):
        threading.excepthook = threading.__excepthook__
        with support.captured_stderr() as stderr:
            self.join([spawn(sys.exit, 3)])
        self.assertEqual(stderr.getvalue(), "")

    def test_settrace(self):
        seen = []

        def trace(frame, event, arg):
            seen.append((event, frame.f_code.co_name))

        def traced():
            pass

        old = threading.gettrace()
        threading.settrace(trace)
        try:
            self.join([spawn(traced)])
        finally:
            threading.settrace(old)
        self.assertIn(("call", "traced"), seen)
        self.assertIsNone(self.call(sys.gettrace))

    def test_setprofile(self):
        seen = []

        def profile(frame, event, arg):
            seen.append((event, frame.f_code.co_name))

        def profiled():
            pass

        old = threading.getprofile()
        threading.setprofile(profile)
        try:
            self.join([spawn(profiled)])
        finally:
            threading.setprofile(old)
        self.assertIn(("call", "profiled"), seen)
        self.assertIn(("return", "profiled"), seen)

    def test_trace_survives_parking(self):
        lines = []

        def trace(frame, event, arg):
            if event == "line" and frame.f_code.co_name == "traced":
                lines.append(frame.f_lineno - frame.f_code.co_firstlineno)
            return trace

        def traced(event):
            event.wait()
            event.wait()

        def run(event):
            sys.settrace(trace)
            traced(event)

        event = self.make_event()
        thread = spawn(run, event)
        self.wait_until(lambda: thread.state == "parked", "parked")
        event.set()
        self.join([thread])
        self.assertEqual(lines, [1, 2])


class StandInTests(unittest.TestCase):

    def test_in_its_place(self):
        code = """if True:
            import sys
            import virtual_threading
            sys.modules['threading'] = virtual_threading
            import threading
            thread = threading.Thread(target=print, args=("ran",))
            thread.start()
            thread.join()
            """
        _, out, _ = assert_python_ok('-c', code)
        self.assertEqual(out.strip(), b"ran")

    def test_same_objects(self):
        for name in threading.__all__:
            with self.subTest(name):
                self.assertTrue(hasattr(virtual_threading, name))
                if name not in {'Thread', 'Timer'}:
                    self.assertIs(getattr(virtual_threading, name),
                                  getattr(threading, name))

    def test_all(self):
        self.assertLessEqual(set(threading.__all__), set(virtual_threading.__all__))
        self.assertLessEqual(set(virtual_threading.__all__), set(dir(virtual_threading)))
        namespace = {}
        exec("from virtual_threading import *", namespace)
        self.assertLessEqual(set(virtual_threading.__all__), set(namespace))

    def test_not_in_all(self):
        self.assertIs(virtual_threading.__excepthook__, threading.__excepthook__)
        self.assertIs(virtual_threading.currentThread, threading.currentThread)
        with self.assertRaisesRegex(AttributeError, "virtual_threading"):
            virtual_threading.nonsense

    def test_pickle(self):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(virtual_threading, protocol)
            self.assertIs(pickle.loads(data), virtual_threading)

    def test_excepthook_is_assigned_to_threading(self):
        def hook(args):
            pass

        old = threading.excepthook
        try:
            virtual_threading.excepthook = hook
            self.assertIs(threading.excepthook, hook)
            self.assertIs(virtual_threading.excepthook, hook)
        finally:
            threading.excepthook = old


if __name__ == "__main__":
    unittest.main()
