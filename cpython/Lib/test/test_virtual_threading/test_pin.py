"""Foreign frames on the stack: the thread keeps its OS thread, others go on.

The same in what the interpreter begins and ends on one OS thread.
"""

import collections
import gc
import io
import itertools
import queue
import random
import sys
import threading
import unittest
import weakref
from test.support import import_helper

from test.test_virtual_threading import foreign
from test.test_virtual_threading.util import TIMEOUT, CollectorBeside, TestCase
from virtual_threading import dump, spawn, stats, yield_now

ctypes = import_helper.import_module('ctypes')

COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int),
                           ctypes.POINTER(ctypes.c_int))


def foreign_sort(numbers, compare):
    """Sorts in C, comparing by compare(a, b) in Python."""
    libc = ctypes.CDLL(None)
    array = (ctypes.c_int * len(numbers))(*numbers)
    errors = []

    def callback(a, b):
        try:
            return compare(a[0], b[0])
        except Exception as exc:
            errors.append(exc)
            return 0

    libc.qsort(array, len(array), ctypes.sizeof(ctypes.c_int), COMPARE(callback))
    if errors:
        raise errors[0]
    return list(array)


class ForeignFrameTests(TestCase):

    COUNT = 12

    def test_pinned_and_others_go_on(self):
        event = self.make_event()

        def block():
            return foreign_sort([3, 1, 2], lambda a, b: event.wait() and a - b)

        before = sum(stats()['pins'].values())
        results = self.check_parks(block, event.set, count=self.COUNT,
                                   states=('pinned',))
        self.assertEqual(results, [[1, 2, 3]] * self.COUNT)
        self.assertGreaterEqual(sum(stats()['pins'].values()), before + self.COUNT)

    def test_yield_in_callback(self):
        def run(numbers):
            def compare(a, b):
                yield_now()
                return a - b
            return foreign_sort(numbers, compare)

        numbers = [5, 3, 8, 1, 9, 2]
        results = self.call_all([lambda: run(numbers)] * 20)
        self.assertEqual(results, [sorted(numbers)] * 20)

    def test_nested(self):
        event = self.make_event()

        def run(depth):
            if depth == 0:
                event.wait()
                return 0
            return foreign_sort([1, 2], lambda a, b: (run(depth - 1), a - b)[1])

        self.check_parks(lambda: run(5), event.set, count=5, states=('pinned',))

    def test_zero_in_the_frame_pointer(self):
        # As in the outermost frame of a stack.
        builder = foreign.Builder()
        self.addCleanup(builder.close)
        module = builder.make('vt_zero', '-DZERO_FRAME_POINTER')
        self.addCleanup(sys.modules.pop, 'vt_zero')
        event = self.make_event()
        results = self.check_parks(lambda: module.call(event.wait), event.set,
                                   count=self.COUNT, states=('pinned',))
        self.assertEqual(results, [(True, True)] * self.COUNT)

    def test_parks_once_the_foreign_frames_are_gone(self):
        event = self.make_event()

        def block():
            foreign_sort([2, 1], lambda a, b: a - b)
            event.wait()

        self.check_parks(block, event.set)

    def test_mixed_at_random(self):
        # What was found out about frames at one wait must not be believed of others at the next.
        def wait():
            event = threading.Event()
            waiting.put(event)
            if not over.is_set():
                event.wait()

        def nest(depth, in_foreign):
            def inner(*args):
                nest(depth - 1, in_foreign or how is foreign)
                return 0

            def plain():
                inner()

            def core():
                sorted([1, 2], key=inner)

            def foreign():
                foreign_sort([1, 2], inner)

            for _ in range(choices.randrange(3)):
                pinned.append(in_foreign)
                wait()
            if depth > 0:
                for _ in range(choices.randrange(3)):
                    how = choices.choice([plain, core, core, core, foreign])
                    how()

        def run():
            for _ in range(3):
                nest(6, False)
            for depth in range(30):     # more than are remembered
                nest_core(depth)
            waiting.put(None)

        def nest_core(depth):
            pinned.append(False)
            wait()
            if depth:
                list(map(nest_core, [depth - 1]))

        seed = random.randrange(2**32)
        choices = random.Random(seed)
        pinned, waiting = [], queue.SimpleQueue()
        over = threading.Event()        # set before what has been put is taken
        thread = spawn(run)
        with self.subTest(seed=seed):
            try:
                while (event := waiting.get(timeout=TIMEOUT)) is not None:
                    with self.setting(event):
                        self.wait_until(lambda: thread.state in ('parked', 'pinned'), "waits")
                        self.assertEqual(thread.state, 'pinned' if pinned[-1] else 'parked')
            finally:
                over.set()
                while not waiting.empty():
                    if (event := waiting.get()) is not None:
                        event.set()
        self.join([thread])

    def test_error_in_callback(self):
        def run():
            with self.assertRaises(ZeroDivisionError):
                foreign_sort([2, 1], lambda a, b: 1 // 0)

        self.call_all([run] * 10)

    def test_spawn_and_join_in_callback(self):
        def compare(a, b):
            spawn(yield_now).join()
            return a - b

        results = self.call_all([lambda: foreign_sort([3, 2, 1], compare)] * 10)
        self.assertEqual(results, [[1, 2, 3]] * 10)

    def test_sqlite_function(self):
        # sqlite holds a mutex of the OS thread over the callback.
        sqlite3 = import_helper.import_module('sqlite3')
        event = self.make_event()

        def block():
            connection = sqlite3.connect(":memory:")
            try:
                connection.create_function("wait", 0, lambda: int(event.wait()))
                return connection.execute("select wait()").fetchone()
            finally:
                connection.close()

        results = self.check_parks(block, event.set, count=self.COUNT,
                                   states=('pinned',))
        self.assertEqual(results, [(1,)] * self.COUNT)

    def test_gilstate_in_a_foreign_thread(self):
        # A thread made by C calls Python, which starts and joins virtual threads.
        libc = ctypes.CDLL(None)
        seen = []
        routine_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

        def routine(argument):
            thread = spawn(seen.append, 1)
            thread.join()
            return None

        callback = routine_type(routine)

        def run():
            handle = ctypes.c_ulong()
            self.assertEqual(libc.pthread_create(ctypes.byref(handle), None, callback,
                                                 None), 0)
            self.assertEqual(libc.pthread_join(handle, None), 0)

        self.call_all([run] * 5)
        self.assertEqual(seen, [1] * 5)


class CollectedForeignFrameTests(CollectorBeside, ForeignFrameTests):
    pass


class RuntimeSectionTests(TestCase):
    # Objects are made and dropped in one call of C, which can't be preempted: another OS thread
    # than the one that has made an object leaves it to that one to finalize it.

    REASON = 'finalizer or runtime section'
    COUNT = 12

    def setUp(self):
        super().setUp()
        self.event = self.make_event()
        self.entered = threading.Semaphore(0)
        gc.disable()                # that nothing else is collected, or by another thread
        self.addCleanup(gc.enable)

    def wait(self, *args):
        self.entered.release()
        self.event.wait()

    def check(self, block, state, count=COUNT):
        """All wait in block(), which calls wait(), in this state; what pins were counted."""
        found = set()

        def all_wait():
            found.clear()
            found.update(thread.state for thread in threads)
            return found <= {'parked', 'pinned'}

        def dumped():
            file = io.StringIO()
            dump(file)
            return file.getvalue()

        before = stats()['pins']
        threads = [spawn(block) for _ in range(count)]
        try:
            for _ in threads:
                if not self.entered.acquire(timeout=TIMEOUT):
                    self.give_up("not all threads have come to wait")
            self.wait_until(all_wait, "all wait")
            self.assertEqual(found, {state})
            self.wait_until(lambda: f"{threads[0].ident:#x} {state}" in dumped(), "dumped")
            self.assertEqual(self.call_all([lambda: 1] * 10), [1] * 10)
            after = stats()['pins']
        finally:
            self.event.set()
            self.join(threads)
        return {reason: after[reason] - before[reason] for reason in after
                if after[reason] != before[reason]}

    def check_pins(self, block, count=COUNT):
        pins = self.check(block, 'pinned', count)
        self.assertEqual(set(pins), {self.REASON})
        self.assertGreaterEqual(pins[self.REASON], count)

    def test_finalizer(self):
        class Finalized:
            __del__ = self.wait

        self.check_pins(lambda: collections.deque(
            itertools.starmap(Finalized, [()]), maxlen=0))

    def test_finalizer_in_c(self):
        class Finalized(io.RawIOBase):
            close = self.wait

        self.check_pins(lambda: collections.deque(
            itertools.starmap(Finalized, [()]), maxlen=0))

    def test_weakref_callback(self):
        # Not in a finalizer: nothing asks on which OS thread it ends.
        class Referent:
            pass

        self.check(lambda: list(map(weakref.ref, itertools.starmap(Referent, [()]),
                                    [self.wait])), 'parked')

    def test_collection(self):
        class Finalized:
            __del__ = self.wait

        def block():
            obj = Finalized()
            obj.cycle = obj
            del obj
            gc.collect()

        self.check_pins(block, count=1)

    def test_merge(self):
        # Of what an idle carrier has made: its housekeeping waits, and keeps no slot.
        made, references = [], []

        class Referent:
            pass

        def make():
            made.append(Referent())
            references.append(weakref.ref(made[0], self.wait))

        self.call(make)
        before = stats()['pins'][self.REASON]
        made.clear()
        if not self.entered.acquire(timeout=TIMEOUT):
            self.give_up("what an idle carrier has made has not ended")
        self.wait_until(lambda: {'parked', 'pinned'} & set(
            state for state, count in stats()['threads'].items() if count), "it waits")
        self.assertGreater(stats()['pins'][self.REASON], before)
        self.assertEqual(self.call_all([lambda: 1] * 10), [1] * 10)

    def test_module_init(self):
        # The name of the package is kept in the OS thread meanwhile.  The module's frames pin
        # too, but that is another reason.
        builder = foreign.Builder()
        self.addCleanup(builder.close)
        path = builder.build('vt_init_hook', '-DINIT_HOOK', '-DSINGLE_PHASE')
        self.addCleanup(sys.modules.pop, 'vt_package.vt_init_hook', None)
        sys.vt_init_hook = self.wait
        self.addCleanup(delattr, sys, 'vt_init_hook')
        modules = []
        self.check_pins(lambda: modules.append(
            builder.load(path, 'vt_package.vt_init_hook')), count=1)
        self.assertEqual(modules[0].__name__, 'vt_package.vt_init_hook')


if __name__ == "__main__":
    unittest.main()
