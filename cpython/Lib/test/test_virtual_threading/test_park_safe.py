"""Foreign modules that are declared park-safe, and reports of what pins."""

import functools
import os
import shutil
import sys
import tempfile
import threading
import time
import unittest

from test.support import requires_subprocess
from test.support.script_helper import assert_python_ok
from test.test_virtual_threading import foreign
from test.test_virtual_threading.util import CollectorBeside, TestCase
from virtual_threading import (Interrupted, declare_park_safe, park_safe_modules,
                               set_pin_handler, spawn, stats, yield_now)

# Less than the carriers there may be: those that are pinned hold one each.
PINNED = 12

builder = None


def setUpModule():
    global builder
    builder = foreign.Builder()
    builder.build = functools.cache(builder.build)      # once for both variants of a test
    unittest.addModuleCleanup(builder.close)


class ForeignTestCase(TestCase):

    def make(self, name, *flags, package=None):
        module = builder.make(name, *flags, package=package)
        self.addCleanup(sys.modules.pop, module.__name__)
        return module


class DeclareTests(ForeignTestCase):

    def check_is_safe(self, module):
        event = self.make_event()
        before = stats()['pinned_by']
        results = self.check_parks(lambda: module.call(event.wait), event.set)
        # Each came back to its OS thread.
        self.assertEqual(set(results), {(True, True)})
        self.assertEqual(stats()['pinned_by'], before)

    def check_pins(self, call, name):
        event = self.make_event()
        before = stats()['pinned_by'].get(name, 0)
        self.check_parks(lambda: call(event.wait), event.set, count=PINNED,
                         states=('pinned',))
        self.assertGreaterEqual(stats()['pinned_by'][name], before + PINNED)

    def test_not_declared(self):
        module = self.make('vt_not_declared')
        self.check_pins(module.call, os.path.basename(module.__file__))
        self.assertNotIn('vt_not_declared', park_safe_modules())

    def test_two_of_one_name(self):
        # In two directories: stats() tells them by the name of the file, and counts both.
        path = builder.build('vt_twice')
        with tempfile.TemporaryDirectory() as directory:
            other_path = shutil.copy(path, directory)
            modules = [builder.load(path, 'vt_here.vt_twice'),
                       builder.load(other_path, 'vt_there.vt_twice')]
        for module in modules:
            self.addCleanup(sys.modules.pop, module.__name__)
            self.check_pins(module.call, os.path.basename(path))
        self.assertGreaterEqual(stats()['pinned_by'][os.path.basename(path)], 2 * PINNED)

    def test_declared(self):
        module = self.make('vt_declared')
        declare_park_safe('vt_declared')
        self.assertIn('vt_declared', park_safe_modules())
        self.check_is_safe(module)

    def test_declared_before_the_import(self):
        declare_park_safe('vt_declared_before')
        self.check_is_safe(self.make('vt_declared_before'))

    def test_single_phase(self):
        declare_park_safe('vt_single_before')
        self.check_is_safe(self.make('vt_single_before', '-DSINGLE_PHASE'))
        module = self.make('vt_single_after', '-DSINGLE_PHASE')
        declare_park_safe('vt_single_after')
        self.check_is_safe(module)

    def test_package(self):
        declare_park_safe('vt_package')
        self.check_is_safe(self.make('vt_inner', package='vt_package'))
        # Not a package of which the name is the beginning.
        other = self.make('vt_other', package='vt_package2')
        self.check_pins(other.call, os.path.basename(other.__file__))

    def test_slot(self):
        module = self.make('vt_slot', '-DVALUE=Py_MOD_PARK_SAFE')
        self.check_is_safe(module)
        self.assertIn('vt_slot', park_safe_modules())

    def test_slot_that_says_no(self):
        module = self.make('vt_slot_no', '-DVALUE=Py_MOD_PARK_UNSAFE')
        self.check_pins(module.call, os.path.basename(module.__file__))
        self.assertNotIn('vt_slot_no', park_safe_modules())

    def test_other_foreign_frames_pin(self):
        # The module is safe, the C library below and above its frames is not.
        module = self.make('vt_mixed', '-DVALUE=Py_MOD_PARK_SAFE')
        event = self.make_event()
        before = stats()['pins']['foreign native frame']
        self.check_parks(lambda: module.call_in_qsort(event.wait), event.set,
                         count=PINNED, states=('pinned',))

        event = self.make_event()
        self.check_parks(
            lambda: module.call_in_qsort(lambda: module.call(event.wait)), event.set,
            count=PINNED, states=('pinned',))
        self.assertGreaterEqual(stats()['pins']['foreign native frame'],
                                before + 2 * PINNED)

    def test_kinds_of_waits(self):
        module = self.make('vt_waits', '-DVALUE=Py_MOD_PARK_SAFE')
        lock = threading.Lock()

        def wait():
            for _ in range(10):
                yield_now()
                time.sleep(0.0001)
                with lock:
                    yield_now()
            return sum(module.call(yield_now)[1] for _ in range(10))

        results = self.call_all([lambda: module.call(wait)] * 40)
        self.assertEqual(results, [(10, True)] * 40)

    def test_free_once_the_frames_are_gone(self):
        # What waits elsewhere afterwards is not bound any more: it can be resumed while its
        # old OS thread is held for good.
        module = self.make('vt_free', '-DVALUE=Py_MOD_PARK_SAFE')
        pinning = self.make('vt_pinning')
        event, end = self.make_event(), self.make_event()
        all_there = threading.Barrier(PINNED + 1)

        def run():
            module.call(yield_now)
            all_there.wait()
            event.wait()
            # It may hold this OS thread; the others go on elsewhere.
            pinning.call(end.wait)

        threads = [spawn(run) for _ in range(PINNED)]
        all_there.wait()
        event.set()
        self.wait_until(lambda: all(t.state == 'pinned' for t in threads), "all pinned")
        end.set()
        self.join(threads)

    def test_error_through_foreign_frames(self):
        module = self.make('vt_error', '-DVALUE=Py_MOD_PARK_SAFE')

        def fail():
            yield_now()
            raise ZeroDivisionError

        def run():
            with self.assertRaises(ZeroDivisionError):
                module.call(fail)

        self.call_all([run] * 20)

    def test_nested(self):
        module = self.make('vt_nested', '-DVALUE=Py_MOD_PARK_SAFE')
        event = self.make_event()

        def run(depth):
            return module.call(lambda: run(depth - 1)) if depth else event.wait()

        self.check_parks(lambda: run(20), event.set)

    def test_bad_input(self):
        for bad in None, 1, b"name", sys:
            with self.subTest(bad), self.assertRaises(TypeError):
                declare_park_safe(bad)

    def test_what_is_no_extension_module(self):
        # Of no effect, and no error: a package may get one later.
        declare_park_safe('test.test_virtual_threading')
        self.assertIn('test.test_virtual_threading', park_safe_modules())


class CollectedDeclareTests(CollectorBeside, DeclareTests):
    pass


class HandlerTests(ForeignTestCase):

    def setUp(self):
        super().setUp()
        self.addCleanup(self.end_reports)

    def end_reports(self):
        set_pin_handler(None)
        self.wait_until(lambda: not any(thread.name == 'pin-handler'
                                        for thread in threading.enumerate()),
                        "the end of the thread that reports")

    def pin_until(self, event, library):
        def block_here():
            library.call(yield_until)

        def yield_until():
            # Reports are few: pin until there was one.
            while not event.is_set():
                event.wait(0.001)

        return spawn(block_here)

    def test_report(self):
        library = self.make('vt_reported')
        event = self.make_event()
        seen = []

        def handler(thread, reason, stack):
            seen.append((thread, reason, [frame.name for frame in stack]))
            event.set()

        set_pin_handler(handler)
        thread = self.pin_until(event, library)
        self.wait_for(event, "a report")
        self.join([thread])
        reporter, reason, names = seen[0]
        self.assertIs(reporter, thread)
        self.assertEqual(reason, "foreign native frame"
                                 f" ({os.path.basename(library.__file__)})")
        prefix = 'HandlerTests.pin_until.<locals>.'
        self.assertIn(prefix + 'block_here', names)
        self.assertLess(names.index(prefix + 'block_here'),
                        names.index(prefix + 'yield_until'))

    def test_handler_that_fails(self):
        library = self.make('vt_failing')
        event = self.make_event()
        calls = []

        def handler(*args):
            calls.append(args)
            if len(calls) == 2:
                event.set()
            raise ValueError("from the handler")

        set_pin_handler(handler)
        self.join([self.pin_until(event, library)])
        set_pin_handler(None)
        self.wait_until(lambda: len(self._failures) >= 2, "both errors")
        failures, self._failures = self._failures, []
        self.assertIn("from the handler", failures[0])

    def test_handler_that_ends_its_thread(self):
        # That thread is not the program's: the reports go on, also to a handler that is set later.
        library = self.make('vt_exiting')

        def check(exc):
            def handler(*args):
                event.set()
                if exc is not None:
                    raise exc

            event = self.make_event()
            set_pin_handler(handler)
            self.join([self.pin_until(event, library)])

        for exc in SystemExit, Interrupted, KeyboardInterrupt, None:
            check(exc)
        set_pin_handler(None)
        # As threads that end by them: the hook of TestCase does not count SystemExit.
        self.wait_until(lambda: len(self._failures) >= 2, "both errors")
        failures, self._failures = self._failures, []
        self.assertIn("Interrupted", failures[0])
        self.assertIn("KeyboardInterrupt", failures[-1])

    def test_replaced(self):
        library = self.make('vt_replaced')
        for _ in range(3):
            event = self.make_event()
            set_pin_handler(lambda *args: event.set())
            self.join([self.pin_until(event, library)])
            set_pin_handler(None)

    def test_bad_input(self):
        for bad in 1, "name", []:
            with self.subTest(bad), self.assertRaises(TypeError):
                set_pin_handler(bad)

    @requires_subprocess()
    def test_trace(self):
        script = """if True:
            import virtual_threading

            def block_here():
                with virtual_threading.pin():
                    threading.Event().wait(0.001)

            import threading
            thread = virtual_threading.spawn(block_here)
            thread.join()
            """
        result = assert_python_ok('-X', 'virtual_threads_trace_pins', '-c', script)
        self.assertIn(b"is pinned: pin()\n", result.err)
        self.assertIn(b" in block_here\n", result.err)
        self.assertEqual(assert_python_ok('-c', script).err, b"")


class CollectedHandlerTests(CollectorBeside, HandlerTests):
    test_trace = None           # in a process of its own


if __name__ == "__main__":
    unittest.main()
