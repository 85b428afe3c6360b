"""Deep stacks in virtual threads: RecursionError, never an overflow."""

import copy
import functools
import json
import re
import sys
import threading
import unittest

from test.test_virtual_threading.util import TestCase
from virtual_threading import yield_now


def depth_of(func):
    """How deep func gets when it calls what it is given, until RecursionError.

    The parser knows no other error for a stack that is too small than MemoryError.
    """
    depth = 0

    def deeper(*args):
        nonlocal depth
        depth += 1
        func(deeper)
        return 0

    try:
        deeper()
    except RecursionError:
        pass
    except MemoryError as exc:
        if "Parser stack overflowed" not in str(exc):
            raise
    return depth


WAYS = {
    'call': lambda deeper: deeper(),
    'map': lambda deeper: list(map(deeper, [1])),
    'sorted': lambda deeper: sorted([1], key=deeper),
    'reduce': lambda deeper: functools.reduce(deeper, [1, 2]),
    're.sub': lambda deeper: re.sub("a", lambda match: str(deeper()), "a"),
    'exec': lambda deeper: exec("deeper()", {'deeper': deeper}),
    'class': lambda deeper: type("C", (), {"__init__": lambda self: deeper() and None})(),
    'comparison': lambda deeper: max([1, 2], key=deeper),
}


class RecursionTests(TestCase):

    def on_platform_thread(self, func):
        results = []
        thread = threading.Thread(target=lambda: results.append(func()))
        thread.start()
        self.join([thread])
        return results[0]

    def test_pure_python(self):
        # The limit counts calls; it is the same for threads of both kinds.
        virtual = self.call(depth_of, WAYS['call'])
        platform = self.on_platform_thread(lambda: depth_of(WAYS['call']))
        self.assertAlmostEqual(virtual, platform, delta=10)

    def test_through_c(self):
        for name, way in WAYS.items():
            with self.subTest(name):
                self.assertGreater(self.call(depth_of, way), 50)

    def test_raised_limit(self):
        limit = sys.getrecursionlimit()
        self.addCleanup(sys.setrecursionlimit, limit)
        sys.setrecursionlimit(100_000)
        self.assertGreater(self.call(depth_of, WAYS['call']), 40_000)
        for name, way in WAYS.items():
            with self.subTest(name):
                self.assertGreater(self.call(depth_of, way), 50)

    def test_raised_while_it_runs(self):
        limit = sys.getrecursionlimit()
        self.addCleanup(sys.setrecursionlimit, limit)
        event = self.make_event()

        def run():
            before = depth_of(WAYS['call'])
            sys.setrecursionlimit(limit + 500)
            raised = depth_of(WAYS['call'])
            event.wait()
            return raised - before, depth_of(WAYS['call']) - before

        def release():
            sys.setrecursionlimit(limit)
            event.set()

        self.assertEqual(self.check_parks(run, release, count=1), [(250, 0)])

    def test_many_at_once(self):
        results = self.call_all([lambda: depth_of(WAYS['map'])] * 20)
        self.assertGreater(min(results), 50)

    def test_usable_afterwards(self):
        def run():
            for _ in range(3):
                depth_of(WAYS['sorted'])
                yield_now()
            return sum(map(int, "123"))

        self.assertEqual(self.call_all([run] * 5), [6] * 5)

    def test_nested_data(self):
        def nest(outer, depth=100_000):
            data = outer()
            for _ in range(depth):
                data = outer([data])
            return data

        def run():
            for func, argument in ((repr, nest(list)), (json.dumps, nest(list)),
                                   (json.loads, "[" * 100_000),
                                   (copy.deepcopy, nest(list))):
                with self.assertRaises(RecursionError, msg=func):
                    func(argument)
            with self.assertRaises(RecursionError):
                nest(list) == nest(list)

        self.call(run)

    def test_compiler(self):
        for source in ("(" * 1000 + ")" * 1000, "-" * 100_000 + "1",
                       "+".join(["a"] * 100_000)):
            with self.assertRaises((RecursionError, MemoryError, SyntaxError)):
                self.call(compile, source, "<nested>", "eval")

    def test_deep_stack_parks(self):
        # Depth costs nothing special: it parks and goes on.
        event = self.make_event()

        def deep(depth):
            if depth == 0:
                event.wait()
                return 0
            return sum(map(deep, [depth - 1])) + 1

        self.assertEqual(self.check_parks(lambda: deep(50), event.set, count=20),
                         [50] * 20)


if __name__ == "__main__":
    unittest.main()
