"""Garbage collection beside virtual threads that run, park, start and end."""

import gc
import io
import sys
import threading
import unittest
import weakref

from test import support
from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import pin, spawn, yield_now


class Node:
    pass


def make_cycle():
    first, second = Node(), Node()
    first.other, second.other = second, first
    return weakref.ref(first)


class CollectionTests(TestCase):

    def test_collect_in_virtual_threads(self):
        def run():
            reference = make_cycle()
            yield_now()
            gc.collect()
            return reference()

        # Another thread may be the one that collects it.
        self.call_all([run] * 10)
        reference = self.call(make_cycle)
        support.gc_collect()
        self.assertIsNone(reference())

    def test_collect_beside(self):
        stop = self.make_event()

        def churn():
            while not stop.is_set():
                for _ in range(50):
                    make_cycle()
                yield_now()

        def spawn_and_join():
            while not stop.is_set():
                spawn(make_cycle).join()

        threads = [spawn(churn) for _ in range(8)]
        threads += [spawn(spawn_and_join) for _ in range(4)]
        for _ in range(20):
            gc.collect()
        self.call_all([gc.collect] * 10)
        stop.set()
        self.join(threads)

    def drop(self, make):
        """Collects what another OS thread has made, which does not come to merge it."""
        box = []
        made, end = threading.Event(), self.make_event()

        def own():
            box.append(make())
            made.set()
            end.wait()

        owner = threading.Thread(target=own)
        owner.start()
        self.wait_for(made)
        with support.catch_unraisable_exception() as caught:
            box.clear()
            gc.collect()
            self.assertIsNone(caught.unraisable)
        end.set()
        owner.join()

    def test_in_order(self):
        # Each level of what is dropped waits for its owner in its turn.
        log = []

        class Level:
            def __init__(self, number, below):
                self.number, self.below = number, below
            def __del__(self):
                log.append(self.number)

        def chain(length):
            below = None
            for number in reversed(range(length)):
                below = Level(number, below)
            return below

        self.drop(lambda: chain(20))
        self.assertEqual(log, list(range(20)))
        log.clear()
        self.drop(lambda: chain(1000))
        self.assertEqual(sorted(log), list(range(1000)))

    def test_exported_buffer(self):
        self.drop(lambda: io.BytesIO(b"x").getbuffer())

    def test_parked_threads_keep_what_they_hold(self):
        event = self.make_event()
        references = []

        def hold():
            node = Node()
            node.cycle = node
            references.append(weakref.ref(node))
            event.wait()
            return node.cycle is node

        results = []
        with self.blocked(lambda: results.append(hold())):
            for _ in range(3):
                gc.collect()
            self.assertEqual(len(references), COUNT)
            self.assertTrue(all(r() is not None for r in references))
            event.set()
        self.assertEqual(results, [True] * COUNT)
        self.wait_until(lambda: gc.collect() is not None
                        and not any(r() for r in references), "nodes collected")

    def test_parked_threads_keep_what_c_holds(self):
        # References that only a C frame has: the iterator of list(map(...)).
        event = self.make_event()

        def numbers():
            node = Node()
            node.cycle = node
            for number in range(3):
                event.wait()
                yield number

        with self.blocked(lambda: list(map(abs, numbers()))) as results:
            for _ in range(3):
                gc.collect()
            event.set()
        self.assertEqual(results, [[0, 1, 2]] * COUNT)

    def test_objects_outlive_their_thread(self):
        made = self.call_all([lambda n=n: [n, {n: [n]}, Node()] for n in range(200)])
        gc.collect()
        for number, (first, second, _) in enumerate(made):
            self.assertEqual((first, second), (number, {number: [number]}))
        del made
        gc.collect()

    def test_shared_objects(self):
        # Reference counts from many threads, on several carriers.
        shared = [Node() for _ in range(10)]
        references = [weakref.ref(node) for node in shared]

        def run():
            for _ in range(200):
                copy = list(shared)
                yield_now()
                del copy

        self.call_all([run] * 20)
        shared.clear()
        self.wait_until(lambda: gc.collect() is not None
                        and not any(r() for r in references), "nodes freed")

    def test_gc_callbacks(self):
        seen = []

        def callback(phase, info):
            seen.append(threading.current_thread())

        gc.callbacks.append(callback)
        self.addCleanup(gc.callbacks.remove, callback)
        self.call(gc.collect)
        self.assertGreaterEqual(len(seen), 2)


class MergeTests(TestCase):

    def test_owner_sleeps(self):
        # What a carrier has made and another thread drops ends promptly, although the
        # carrier has nothing to run any more.
        finalized = self.make_event()
        released = self.make_event()
        made = []

        class Finalized:
            def __del__(self):
                finalized.set()

        class Referent:
            pass

        def make():
            made.append(Finalized())
            made.append(Referent())

        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(20):
            finalized.clear()
            released.clear()
            self.call(make)
            reference = weakref.ref(made[1], lambda _: released.set())
            del made[:]
            self.wait_for(finalized, "__del__ of what an idle carrier has made")
            self.wait_for(released, "the callback of a weak reference to it")

    def test_recursion_limit(self):
        # The thread by which an idle carrier merges was made before the limit was set.
        finalized = self.make_event()
        made, seen = [], []

        class Finalized:
            def __del__(self):
                depth = 0

                def deeper():
                    nonlocal depth
                    depth += 1
                    deeper()

                try:
                    deeper()
                except RecursionError:
                    pass
                seen.append((depth, threading.get_native_id()))
                finalized.set()

        def make():
            with pin():
                made.append(Finalized())
                return threading.get_native_id()

        gc.disable()
        self.addCleanup(gc.enable)
        before = sys.getrecursionlimit()
        self.addCleanup(sys.setrecursionlimit, before)
        for limit in before, before + 500, before:
            finalized.clear()
            maker = self.call(make)
            sys.setrecursionlimit(limit)
            made.clear()
            self.wait_for(finalized, "__del__ of what an idle carrier has made")
            depth, native_id = seen.pop()
            self.assertEqual(native_id, maker)
            self.assertAlmostEqual(depth, limit, delta=50)


if __name__ == "__main__":
    unittest.main()
