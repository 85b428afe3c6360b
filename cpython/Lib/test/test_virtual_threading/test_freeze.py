"""Cold stacks are frozen, and come back as they were.

The runtime freezes the native stacks of threads that have been parked for long when there
are more than it likes to keep; the hard build, of every thread that parks.
"""

import collections
import functools
import gc
import io
import json
import sys
import sysconfig
import threading
import unittest

from test.test_virtual_threading.util import TestCase
from virtual_threading import dump, spawn, stats

# More than the runtime keeps: see stack_budget in continuations/cpool.h.
IS_HARD = 'CONT_HARD' in (sysconfig.get_config_var('CONFIG_ARGS') or '')
COUNT = 200 if IS_HARD else 20_000


class FreezeTests(TestCase):

    def setUp(self):
        super().setUp()
        self.event = self.make_event()

    def wait(self, value=None):
        self.event.wait()
        return value

    def park_until_frozen(self, functions):
        """Threads of functions, of which some have been frozen meanwhile; and results."""
        results = [None] * len(functions)

        def run(index, function):
            results[index] = function()

        before = stats()['freezes']
        threads = [spawn(run, *item) for item in enumerate(functions)]
        self.wait_until(lambda: stats()['threads']['parked'] >= len(functions),
                        "all parked")
        self.wait_until(lambda: stats()['freezes'] - before >= len(functions) // 10,
                        "frozen")
        self.assert_frozen()
        return threads, results

    def assert_frozen(self):
        found = stats()
        self.assertGreater(found['stacks_frozen'], 0)
        self.assertGreater(found['image_bytes'], found['stacks_frozen'])

    def test_values(self):
        # The frames of C functions between Python's own lie on the native stack.  A thread
        # without them would wait without a stack (test_soft_park).
        ways = [
            lambda: max([1, 0], key=self.wait),
            lambda: list(map(self.wait, [1, 2]))[0],
            lambda: sorted([1, 1], key=self.wait)[0],
            lambda: functools.reduce(lambda a, b: self.wait(a), [1, 2, 3]),
        ]
        threads, results = self.park_until_frozen([ways[i % len(ways)]
                                                   for i in range(COUNT)])
        self.event.set()
        self.join(threads)
        self.assertEqual(results, [1] * COUNT)
        self.wait_until(lambda: stats()['stacks_frozen'] == 0, "nothing frozen")
        self.assertEqual(stats()['image_bytes'], 0)

    def test_seen_while_frozen(self):
        frames = []

        def wait(value):
            frames.append(sys._getframe())
            self.wait()

        def block():
            functools.reduce(lambda a, b: list(map(wait, [b])), [1, 2])

        threads, _ = self.park_until_frozen([block] * COUNT)
        gc.collect()
        file = io.StringIO()
        dump(file, format="json")
        seen = json.loads(file.getvalue())["threads"]
        stacks = [[frame["function"].rpartition(".")[2] for frame in thread["stack"]]
                  for thread in seen]
        expected = ["run", "block", "<lambda>", "wait", "wait", "wait", "wait"]
        self.assertEqual([stack for stack in stacks if stack != expected], [])
        self.assertEqual(len(stacks), COUNT)

        # From a frame on to its callers, by way of reduce() and map().
        callers = collections.Counter()
        for frame in frames:
            names = []
            while frame is not None:
                names.append((frame.f_code.co_name, frame.f_lineno))
                frame = frame.f_back
            callers[tuple(names)] += 1
        self.assertEqual(list(callers.values()), [COUNT])
        self.assertEqual([name for name, _ in names], ["wait", "<lambda>", "block", "run"])
        self.assert_frozen()
        self.event.set()
        self.join(threads)

    def test_traced_from_now_on(self):
        # Profilers that are switched on meanwhile see what comes after the thaw.
        tool, monitoring = 4, sys.monitoring
        events, returned = [], []

        def wait(value):
            self.wait()
            return value

        def profile(frame, event, arg):
            if frame.f_code is wait.__code__:
                events.append((threading.get_ident(), event))

        def count(code, offset, value):
            if code is wait.__code__:
                returned.append(value)

        threads, results = self.park_until_frozen([lambda: list(map(wait, [1, 2]))] * COUNT)
        idents = [thread.ident for thread in threads]
        monitoring.use_tool_id(tool, "freeze")
        try:
            monitoring.register_callback(tool, monitoring.events.PY_RETURN, count)
            monitoring.set_events(tool, monitoring.events.PY_RETURN)
            threading.setprofile_all_threads(profile)
            self.assert_frozen()
            self.event.set()
            self.join(threads)
        finally:
            threading.setprofile_all_threads(None)
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)
        self.assertEqual(results, [[1, 2]] * COUNT)
        self.assertEqual(sorted(returned), [1] * COUNT + [2] * COUNT)
        found = collections.defaultdict(list)
        for ident, event in events:
            found[ident].append(event)
        self.assertEqual(found, {ident: ['return', 'call', 'return'] for ident in idents})

    def test_exceptions(self):
        def fail(_):
            self.event.wait()
            raise LookupError("after the thaw")

        def run():
            try:
                return list(map(fail, [1]))
            except LookupError as exc:
                names = []
                traceback = exc.__traceback__
                while traceback is not None:
                    names.append(traceback.tb_frame.f_code.co_name)
                    traceback = traceback.tb_next
                return names

        threads, results = self.park_until_frozen([run] * COUNT)
        self.event.set()
        self.join(threads)
        self.assertEqual(results, [["run", "fail"]] * COUNT)


if __name__ == "__main__":
    unittest.main()
