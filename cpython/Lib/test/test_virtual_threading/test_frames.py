"""Parking with C frames between the Python frames: case group A of the requirements.

Each case is a way from C back into Python.  Forty threads block in it at the same
time, one more runs, then all end with the right value.
"""

import collections
import enum
import functools
import gc
import itertools
import operator
import unittest
import weakref

import virtual_threading
from test.support import gc_collect, requires_subprocess
from test.support.script_helper import assert_python_ok
from test.test_virtual_threading.util import COUNT, CollectorBeside, TestCase
from virtual_threading import spawn


class FrameTestCase(TestCase):

    def setUp(self):
        super().setUp()
        self.event = self.make_event()

    def wait(self, value=None):
        self.event.wait()
        return value

    def check(self, block, expected, **kwargs):
        """Blocks in block(), which calls self.wait() by way of C."""
        self.event.clear()
        results = self.check_parks(block, self.event.set, **kwargs)
        for result in results:
            self.assertEqual(result, expected)


class IterationTests(FrameTestCase):

    def test_map(self):
        self.check(lambda: list(map(self.wait, range(3))), [0, 1, 2])

    def test_filter(self):
        self.check(lambda: list(filter(self.wait, range(3))), [1, 2])

    def test_enumerate(self):
        self.check(lambda: list(enumerate(map(self.wait, "ab"))), [(0, "a"), (1, "b")])

    def test_zip(self):
        self.check(lambda: list(zip(map(self.wait, "ab"), map(self.wait, "cd"))),
                   [("a", "c"), ("b", "d")])

    def test_reduce(self):
        self.check(lambda: functools.reduce(lambda a, b: self.wait(a + b), [1, 2, 3]),
                   6)

    def test_itertools(self):
        self.check(lambda: list(itertools.accumulate(map(self.wait, [1, 2, 3]))),
                   [1, 3, 6])
        self.check(lambda: list(itertools.starmap(self.wait, [(1,), (2,)])), [1, 2])
        self.check(lambda: [(key, list(group)) for key, group
                            in itertools.groupby([1, 1, 2], self.wait)],
                   [(1, [1, 1]), (2, [2])])
        self.check(lambda: list(itertools.chain.from_iterable(map(self.wait, ["ab"]))),
                   ["a", "b"])

    def test_generators_in_builtins(self):
        def generate(*values):
            for value in values:
                yield self.wait(value)

        for function, values, expected in (
                (any, (0, 0), False), (all, (1, 1), True), (sum, (1, 2), 3),
                (max, (1, 2), 2), (min, (1, 2), 1), (list, (1,), [1]),
                (tuple, (1,), (1,)), (set, (1,), {1}), (dict, ((1, 2),), {1: 2}),
                (bytes, (65,), b"A"), (",".join, ("a", "b"), "a,b"),
                (sorted, (2, 1), [1, 2]), (collections.deque, (1,),
                                           collections.deque([1]))):
            with self.subTest(str(function)):
                self.check(lambda: function(generate(*values)), expected)

    def test_containment(self):
        def generate():
            yield self.wait(1)
            yield 2

        self.check(lambda: 2 in generate(), True)

    def test_unpacking(self):
        def generate():
            yield self.wait(1)
            yield self.wait(2)

        def unpack():
            first, *rest = generate()
            return first, rest

        self.check(unpack, (1, [2]))
        self.check(lambda: [*generate()], [1, 2])

    def test_yield_from(self):
        def inner():
            yield self.wait(1)
            return 2

        def outer():
            yield (yield from inner())

        self.check(lambda: list(outer()), [1, 2])


class SortTests(FrameTestCase):

    def test_key(self):
        self.check(lambda: sorted([3, 1, 2], key=self.wait), [1, 2, 3])

    def test_cmp(self):
        compare = functools.cmp_to_key(lambda a, b: self.wait(a - b))
        self.check(lambda: sorted([3, 1, 2], key=compare), [1, 2, 3])

    def test_list_of_its_own(self):
        def sort():
            numbers = [3, 1, 2]
            numbers.sort(key=self.wait)
            return numbers

        self.check(sort, [1, 2, 3])

    def test_shared_list(self):
        # What the others see meanwhile is an empty list, as with platform threads.
        numbers = [3, 1, 2]
        entered = self.make_event()

        def sort():
            try:
                numbers.sort(key=lambda n: entered.set() or self.wait(n))
            except ValueError:
                pass        # modified during sort

        first = spawn(sort)
        self.wait_for(entered)
        others = [spawn(sort) for _ in range(20)]
        self.assertEqual(self.call(int, "42"), 42)
        self.event.set()
        self.join([first, *others])
        self.assertEqual(numbers, [1, 2, 3])

    def test_less_than(self):
        test = self

        class Number(int):
            def __lt__(self, other):
                return test.wait(int(self) < int(other))

        self.check(lambda: sorted(map(Number, [3, 1, 2])), [1, 2, 3])
        self.check(lambda: min(map(Number, [3, 1, 2])), 1)


class SpecialMethodTests(FrameTestCase):

    def test_argument_conversions(self):
        test = self

        class Number:
            def __index__(self):
                return test.wait(2)

            def __float__(self):
                return test.wait(2.0)

            def __int__(self):
                return test.wait(2)

        for function, expected in (
                (lambda n: "abc"[n], "c"), (lambda n: [0, 1, 2][n], 2),
                (range, range(2)), (hex, "0x2"), (bytes, b"\0\0"), (float, 2.0),
                (int, 2), (lambda n: "a" * n, "aa"), (lambda n: "%d" % n, "2"),
                (lambda n: [1, 2, 3][:n], [1, 2]), (chr, "\x02"),
                (lambda n: "a b c".split(" ", n), ["a", "b", "c"]),
                (lambda n: "a".ljust(n), "a ")):
            self.check(lambda: function(Number()), expected)

    def test_truth(self):
        test = self

        class Truth:
            def __bool__(self):
                return test.wait(True)

        class Length:
            def __len__(self):
                return test.wait(1)

        for cls in (Truth, Length):
            self.check(lambda: bool(cls()), True)
            self.check(lambda: 1 if cls() else 2, 1)
            self.check(lambda: any([cls()]), True)

    def test_text(self):
        test = self

        class Text:
            def __format__(self, spec):
                return test.wait("format")

            def __str__(self):
                return test.wait("str")

            def __repr__(self):
                return test.wait("repr")

        self.check(lambda: f"{Text()}", "format")
        self.check(lambda: format(Text(), "x"), "format")
        self.check(lambda: "{}".format(Text()), "format")
        self.check(lambda: "%s" % Text(), "str")
        self.check(lambda: str([Text()]), "[repr]")
        self.check(lambda: repr({1: (Text(),)}), "{1: (repr,)}")

    def test_operators(self):
        test = self

        class Operand:
            def __add__(self, other):
                return test.wait(1)

            __rsub__ = __call__ = __getitem__ = __matmul__ = __pow__ = __add__

            def __contains__(self, item):
                return test.wait(True)

        self.check(lambda: Operand() + 1, 1)
        self.check(lambda: 1 - Operand(), 1)
        self.check(lambda: Operand()[1], 1)
        self.check(lambda: 1 in Operand(), True)
        self.check(lambda: Operand()(2), 1)
        self.check(lambda: operator.matmul(Operand(), 1), 1)
        self.check(lambda: pow(Operand(), 1), 1)

    def test_attributes(self):
        test = self

        class Descriptor:
            def __get__(self, instance, owner):
                return test.wait("get")

            def __set__(self, instance, value):
                test.wait()

        class Attributes:
            descriptor = Descriptor()

            @property
            def prop(self):
                return test.wait("property")

            @functools.cached_property
            def cached(self):
                return test.wait("cached")

            def __getattr__(self, name):
                return test.wait(name)

            def __setattr__(self, name, value):
                super().__setattr__(name, test.wait(value))

        def set_attribute():
            attributes = Attributes()
            attributes.value = 1
            return attributes.value

        self.check(lambda: Attributes().prop, "property")
        self.check(lambda: Attributes().descriptor, "get")
        self.check(lambda: Attributes().missing, "missing")
        self.check(lambda: getattr(Attributes(), "missing", None), "missing")
        self.check(set_attribute, 1)
        self.check(lambda: setattr(Attributes(), 'descriptor', 1), None)

    def test_classes(self):
        test = self

        class Meta(type):
            def __call__(cls, *args):
                test.wait()
                return super().__call__(*args)

            def __instancecheck__(cls, instance):
                return test.wait(True)

        class Made(metaclass=Meta):
            def __new__(cls, value):
                test.wait()
                return super().__new__(cls)

            def __init__(self, value):
                self.value = test.wait(value)

        class Named:
            def __set_name__(self, owner, name):
                self.name = test.wait(name)

        class Base:
            def __init_subclass__(cls):
                cls.value = test.wait(5)

        self.check(lambda: Made(1).value, 1)
        self.check(lambda: isinstance(1, Made), True)
        self.check(lambda: type("New", (), {"x": Named()}).x.name, "x")
        self.check(lambda: type("New", (Base,), {}).value, 5)

    def test_with_and_decorators(self):
        test = self

        class Manager:
            def __enter__(self):
                return test.wait(1)

            def __exit__(self, *exc_info):
                test.wait()
                return True

        def enter():
            with Manager() as value:
                raise ValueError
            return value

        self.check(enter, 1)
        self.check(lambda: functools.lru_cache(self.wait)(1), 1)
        self.check(lambda: functools.partial(self.wait, 1)(), 1)


class MappingTests(FrameTestCase):

    def key(self):
        test = self

        class Key:
            def __init__(self, value):
                self.value = value

            def __hash__(self):
                return test.wait(1)

            def __eq__(self, other):
                return test.wait(self.value == other.value)

        return Key

    def test_own_dict(self):
        Key = self.key()
        self.check(lambda: {Key(1): 2, Key(3): 4}[Key(3)], 4)

    def test_own_set(self):
        Key = self.key()
        self.check(lambda: len({Key(1), Key(2), Key(1)}), 2)

    def test_shared_dict(self):
        # All insert equal and unequal keys with one hash.
        Key = self.key()
        shared = {}
        keys = list(range(COUNT))

        def insert():
            shared[Key(keys.pop() % 4)] = 1

        self.check(insert, None, states=('parked', 'pinned'))
        self.assertEqual(sorted(key.value for key in shared), [0, 1, 2, 3])

    def test_shared_set(self):
        Key = self.key()
        shared = set()
        keys = list(range(COUNT))
        self.check(lambda: shared.add(Key(keys.pop() % 4)), None,
                   states=('parked', 'pinned'))
        self.assertEqual(sorted(key.value for key in shared), [0, 1, 2, 3])

    def test_missing(self):
        test = self

        class Missing(dict):
            def __missing__(self, key):
                return test.wait(key)

        self.check(lambda: Missing()[1], 1)
        self.check(lambda: collections.defaultdict(lambda: self.wait(2))[1], 2)

    def test_shared_defaultdict(self):
        shared = collections.defaultdict(lambda: self.wait(2))
        self.check(lambda: shared[1], 2)

    def test_str_subclass_keys(self):
        test = self

        class Name(str):
            def __hash__(self):
                return test.wait(hash(str(self)))

            __eq__ = str.__eq__

        self.check(lambda: {"a": 1}[Name("a")], 1)

    def test_counter_and_ordered(self):
        Key = self.key()
        self.check(lambda: collections.OrderedDict([(Key(1), 2)])[Key(1)], 2)
        self.check(lambda: collections.Counter([Key(1), Key(1)])[Key(1)], 2)

    def test_enum_lookup(self):
        test = self

        class Color(enum.Enum):
            RED = 1

            @classmethod
            def _missing_(cls, value):
                return test.wait(cls.RED)

        self.check(lambda: Color(7), Color.RED)


class FinalizerTests(FrameTestCase):
    # These may hold the OS thread while they wait, but nobody else's.  What is finalized is
    # dropped where it was made: elsewhere, its owner or a collector would do it.
    STATES = {'states': ('parked', 'pinned'), 'count': 12}

    def make(self, done, entered=None):
        test = self

        class Finalized:
            def __del__(self):
                if entered is not None:
                    entered.set()
                test.wait()
                done.append(1)

        return Finalized

    def test_del(self):
        done = []
        Finalized = self.make(done)

        def block():
            with virtual_threading.pin():
                obj = Finalized()
                del obj

        self.check(block, None, **self.STATES)
        self.assertEqual(len(done), 12)

    def test_nested_dealloc(self):
        done = []
        Finalized = self.make(done)

        def block():
            with virtual_threading.pin():
                nest = Finalized()
                for _ in range(500):    # beyond the limit of the trashcan
                    nest = [nest]
                del nest

        self.check(block, None, **self.STATES)
        self.assertEqual(len(done), 12)

    def test_weakref_callback(self):
        done = []

        def block():
            class Referent:
                pass

            # In one call, which can't be preempted; pinned, it could not park.
            reference, = map(weakref.ref, itertools.starmap(Referent, [()]),
                             [lambda _: self.wait() or done.append(1)])
            return reference() is None

        self.check(block, True, **self.STATES)
        self.assertEqual(len(done), 12)

    def test_collected(self):
        # __del__ of a cycle, in a thread that collects: this one, if no other is faster.
        done, entered = [], self.make_event()
        Finalized = self.make(done, entered)

        def block():
            obj = Finalized()
            obj.cycle = obj
            del obj
            gc.collect()

        thread = spawn(block)
        self.wait_for(entered, "the finalizer")
        self.assertEqual(self.call_all([lambda: 1] * 10), [1] * 10)
        self.assertEqual(done, [])
        self.event.set()
        self.join([thread])
        self.wait_until(lambda: done, "the end of the finalizer")
        gc_collect()
        self.assertEqual(done, [1])


def nest(depth, bottom):
    """Python and C frames in turn, depth of each, and a call of bottom()."""
    if depth == 0:
        return bottom()
    if depth % 3 == 0:
        return list(map(lambda _: nest(depth - 1, bottom), [0]))[0] + 1
    if depth % 3 == 1:
        return functools.reduce(lambda a, b: nest(depth - 1, bottom) + 1, [0, 0])
    found = []
    sorted([0], key=lambda _: found.append(nest(depth - 1, bottom)) or 0)
    return found[0] + 1


class NestingTests(FrameTestCase):

    def test_value(self):
        self.check(lambda: nest(50, lambda: self.wait(1000)), 1050)

    def test_yields_all_the_way(self):
        def bottom():
            for _ in range(100):
                virtual_threading.yield_now()
            return 0

        self.assertEqual(self.call_all([lambda: nest(50, bottom)] * 20), [50] * 20)

    def test_traceback(self):
        def bottom():
            self.wait()
            raise KeyError("bottom")

        def block():
            try:
                nest(50, bottom)
            except KeyError as exc:
                depth = 0
                traceback = exc.__traceback__
                while traceback is not None:
                    depth += traceback.tb_frame.f_code.co_name == "nest"
                    traceback = traceback.tb_next
                return depth, exc.args

        self.check(block, (51, ("bottom",)))


class MigrationTests(unittest.TestCase):

    SCRIPT = """if True:
        import threading
        import time
        import traceback

        import virtual_threading
        from test.test_virtual_threading.test_frames import nest

        def bottom(waits, fail):
            for _ in range(waits):
                before = threading.get_native_id()
                time.sleep(1e-4)
                if threading.get_native_id() != before:
                    moves.append(1)
            if fail:
                raise KeyError("bottom")
            return 1000

        def run(waits, fail):
            try:
                return nest(50, lambda: bottom(waits, fail))
            except KeyError as exc:
                return exc.args, [(frame.f_code.co_name, line) for frame, line
                                  in traceback.walk_tb(exc.__traceback__)]

        def work(number):
            results[number] = run(100, number % 2)

        moves, results = [], [None] * 20
        expected = [run(0, False), run(0, True)]
        virtual_threading.configure(parallelism=4)
        before = virtual_threading.stats()
        threads = [virtual_threading.spawn(work, number) for number in range(20)]
        for thread in threads:
            thread.join()
        after = virtual_threading.stats()
        parks, migrations = (after[name] - before[name] for name in ('parks', 'migrations'))
        print("right:", results == expected * 10)
        print("moved:", min(len(moves), migrations) > max(parks, 2000) / 2,
              parks, migrations, len(moves))
        """

    @requires_subprocess()
    def test_moved_at_each_wait(self):
        # Suspended fifty deep, a hundred times, to be resumed by another OS thread each time.
        output = assert_python_ok('-c', self.SCRIPT, PYTHON_VIRTUAL_THREADS_MOVE='1').out
        self.assertIn(b"right: True\n", output)
        self.assertIn(b"moved: True ", output)


# The same beside a thread that collects garbage.

class CollectedIterationTests(CollectorBeside, IterationTests):
    pass


class CollectedSortTests(CollectorBeside, SortTests):
    pass


class CollectedSpecialMethodTests(CollectorBeside, SpecialMethodTests):
    pass


class CollectedMappingTests(CollectorBeside, MappingTests):
    pass


class CollectedFinalizerTests(CollectorBeside, FinalizerTests):
    pass


class CollectedNestingTests(CollectorBeside, NestingTests):
    pass


if __name__ == "__main__":
    unittest.main()
