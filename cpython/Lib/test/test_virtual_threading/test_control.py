"""yield_now, pin, configure, stats."""

import os
import re
import sys
import threading
import unittest

import virtual_threading
from test import support
from test.support.script_helper import assert_python_ok
from test.test_virtual_threading.util import TestCase
from virtual_threading import configure, pin, spawn, stats, yield_now


class YieldTests(TestCase):

    def test_on_platform_thread(self):
        self.assertIsNone(yield_now())

    def test_others_run(self):
        # More threads than carriers spin on what only the last one will do.
        done = []

        def spin():
            while not done:
                yield_now()

        threads = [spawn(spin) for _ in range(20)]
        threads.append(spawn(done.append, 1))
        self.join(threads)

    def test_many_yields(self):
        counts = self.call_all([lambda: [yield_now() for _ in range(1000)].count(None)
                                for _ in range(20)])
        self.assertEqual(counts, [1000] * 20)


class PinTests(TestCase):

    def test_on_platform_thread(self):
        with pin():
            with pin():
                pass

    def test_stays_on_its_os_thread(self):
        def run():
            seen = set()
            with pin():
                for _ in range(200):
                    seen.add(threading.get_native_id())
                    yield_now()
            return seen

        for seen in self.call_all([run] * 10):
            self.assertEqual(len(seen), 1)

    def test_pinned_threads_do_not_stop_others(self):
        event = self.make_event()

        def block():
            with pin(), pin():
                event.wait()

        before = sum(stats()['pins'].values())
        self.check_parks(block, event.set, count=10, states=('pinned',))
        self.assertGreaterEqual(sum(stats()['pins'].values()), before + 10)

    def test_parks_again_after_the_block(self):
        event = self.make_event()

        def block():
            with pin():
                pass
            event.wait()

        self.check_parks(block, event.set)

    def test_error_inside(self):
        def run():
            with self.assertRaises(ValueError), pin():
                int("x")

        self.call(run)


class ConfigureTests(TestCase):

    def setUp(self):
        super().setUp()
        before = stats()
        self.addCleanup(configure, parallelism=before['parallelism'],
                        max_carriers=before['max_carriers'])

    def test_bad_values(self):
        for name in ('parallelism', 'max_carriers'):
            for value in (0, -1, -10**30):
                with self.subTest(name=name, value=value):
                    # The message names the argument and says what is accepted.
                    with self.assertRaisesRegex((ValueError, OverflowError), name):
                        configure(**{name: value})
            for value in ("2", 1.5, [], b"1"):
                with self.subTest(name=name, value=value):
                    self.assertRaises(TypeError, configure, **{name: value})
        self.assertRaises(TypeError, configure, 2)
        self.assertRaises(TypeError, configure, nonsense=2)

    def test_nothing(self):
        before = stats()['parallelism']
        configure()
        self.assertEqual(stats()['parallelism'], before)

    def test_max_carriers_follows_parallelism(self):
        # It is no less than parallelism, before the first thread and after; nor is one that was
        # set, but what is asked for together has to fit.
        for start in "pass", "virtual_threading.spawn(int).join()":
            with self.subTest(start):
                assert_python_ok('-c', f"""if True:
                    import virtual_threading
                    from virtual_threading import configure, stats

                    def check(parallelism, max_carriers):
                        found = stats()
                        assert found['parallelism'] == parallelism, found
                        assert found['max_carriers'] == max_carriers, found

                    def check_error(**kwargs):
                        before = stats()
                        try:
                            configure(**kwargs)
                        except ValueError:
                            check(before['parallelism'], before['max_carriers'])
                        else:
                            raise AssertionError(kwargs)

                    {start}
                    configure(parallelism=300)
                    check(300, 300)
                    configure(parallelism=2)
                    check(2, 256)
                    check_error(parallelism=300, max_carriers=200)
                    check_error(parallelism=1025)
                    check_error(max_carriers=1)
                    configure(max_carriers=3)
                    check(2, 3)
                    configure(parallelism=4)
                    check(4, 4)
                    configure(parallelism=1)
                    check(1, 3)
                    assert virtual_threading.Thread(target=int).start() is None
                    """)

    @unittest.skipUnless(hasattr(os, 'sched_setaffinity'), "needs os.sched_setaffinity()")
    def test_affinity_changes_after_the_start(self):
        # What was its default stays: configure(max_carriers=...) does not change it.
        assert_python_ok('-c', """if True:
            import os, virtual_threading
            virtual_threading.spawn(int).join()
            before = virtual_threading.stats()['parallelism']
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            virtual_threading.configure(max_carriers=300)
            found = virtual_threading.stats()
            assert found['parallelism'] == before, (before, found)
            assert found['max_carriers'] == 300, found
            """)

    def test_grow_and_shrink(self):
        barrier = threading.Barrier(20)
        for parallelism in (1, 4, 2, 8, 1):
            configure(parallelism=parallelism)
            self.assertEqual(stats()['parallelism'], parallelism)
            self.call_all([barrier.wait] * 20)

    def test_all_carriers_are_held(self):
        # By threads that wait for one that has not been started.
        configure(parallelism=2, max_carriers=4)
        before = stats()
        event = self.make_event()
        entered = threading.Semaphore(0)

        def block():
            with pin():
                entered.release()
                event.wait()

        # More than there are OS threads left over from other tests.
        count = max(before['carriers'], 4) + 6
        threads = [spawn(block) for _ in range(count)]
        for _ in threads:
            if not entered.acquire(timeout=60):
                self.give_up("pinned threads keep others from starting")
        self.join([spawn(event.set)])
        self.join(threads)
        found = stats()
        self.assertEqual(found['max_carriers'], 4)
        self.assertGreater(found['extra_carriers'], before['extra_carriers'])

    def test_shrink_while_threads_run(self):
        configure(parallelism=4)
        stop = self.make_event()

        def work():
            while not stop.is_set():
                sum(range(100))

        threads = [spawn(work) for _ in range(8)]
        configure(parallelism=1)
        self.assertEqual(self.call(int, "3"), 3)
        configure(parallelism=3)
        self.assertEqual(self.call(int, "3"), 3)
        stop.set()
        self.join(threads)


class StatsTests(TestCase):

    DICTS = {'threads', 'pins', 'pinned_by'}
    KEYS = {*DICTS, 'carriers', 'carriers_blocked', 'carriers_idle', 'extra_carriers',
            'max_carriers', 'parallelism', 'started', 'finished', 'parks', 'soft_parks',
            'unparks', 'yields', 'steals', 'migrations', 'handoffs', 'preemptions',
            'stacks_resident', 'stacks_idle', 'stacks_frozen', 'image_bytes', 'freezes',
            'thaws'}

    def test_keys_and_types(self):
        self.call(int)
        found = stats()
        self.assertEqual(set(found), self.KEYS)
        for key in self.KEYS - self.DICTS:
            self.assertIs(type(found[key]), int, key)
        for key in self.DICTS:
            for name, count in found[key].items():
                self.assertIs(type(name), str, key)
                self.assertIs(type(count), int, key)

    @support.requires_docstrings
    def test_docstring(self):
        self.assertEqual(set(re.findall("'(.+?)'", stats.__doc__)), set(stats()))

    def test_counts(self):
        event = self.make_event()
        before = stats()
        with self.blocked(event.wait) as results:
            during = stats()
            event.set()
        after = stats()
        count = len(results)
        self.assertGreaterEqual(during['started'], before['started'] + count)
        self.assertGreaterEqual(during['parks'], before['parks'] + count)
        self.assertGreaterEqual(during['threads'].get('parked', 0), count)
        self.assertGreaterEqual(after['unparks'], before['unparks'] + count)

    def test_nothing_exists_before_the_first_thread(self):
        # No OS thread, and no count of anything.
        assert_python_ok('-c', """if True:
            import os, virtual_threading
            found = virtual_threading.stats()
            assert found['carriers'] == found['started'] == 0, found
            assert os.listdir('/proc/self/task') == [str(os.getpid())]
            """)


class ModuleTests(unittest.TestCase):

    def test_part_of_the_library(self):
        # Else a fatal error lists them among the program's own extension modules.
        self.assertLessEqual({"_continuations", "_vthread", "continuations",
                              "virtual_threading"}, sys.stdlib_module_names)


if __name__ == "__main__":
    unittest.main()
