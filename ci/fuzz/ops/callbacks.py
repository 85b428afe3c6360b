"""Ways from C into Python."""

import bisect
import copy
import csv
import functools
import heapq
import io
import itertools
import json
import operator
import pickle
import re
from xml.parsers import expat

from ops.registry import RESTRICTED, op


@op()
def call(run, call, n):
    return [call(i) for i in range(n)]


@op()
def map_(run, call, n):
    return list(map(call, range(n)))


@op()
def filter_(run, call, n):
    return list(filter(lambda i: call(i) & 1, range(n)))


@op()
def sorted_key(run, call, n):
    return sorted(range(n), key=call)


@op()
def list_sort(run, call, n):
    numbers = list(range(n + 1))
    numbers.sort(key=lambda i: call(i) & 3, reverse=True)
    return numbers


@op()
def sort_less(run, call, n):
    class Number(int):
        def __lt__(self, other):
            call()
            return int(self) < int(other)

    return sorted(map(Number, range(n, -1, -1)))


@op()
def sort_cmp(run, call, n):
    return sorted(range(n + 1), key=functools.cmp_to_key(lambda a, b: call() & 1))


@op()
def reduce_(run, call, n):
    return functools.reduce(lambda a, b: a ^ call(b), range(n + 1))


@op()
def consume(run, call, n):
    def values():
        for i in range(n):
            yield call(i)

    return [any(i < 0 for i in values()), all(values()), sum(values()), max(values()),
            ",".join(map(str, values())), 3 in values(), [*values()]][n:n + 3]


@op()
def iterate(run, call, n):
    return [list(itertools.accumulate(map(call, range(n)))),
            [(key, list(group)) for key, group
             in itertools.groupby(range(n), lambda i: call(i) & 1)],
            list(itertools.takewhile(lambda i: call(i) & 1, range(n)))][n - 1]


@op()
def call_iterator(run, call, n):
    left = iter(range(n))
    return list(iter(lambda: next(left, None) is None or call() | 2, True))


@op()
def search(run, call, n):
    return [bisect.bisect_left([0, 1, 2], n, key=lambda i: (call(), i)[1]),
            heapq.nsmallest(n, range(3), key=call)]


def make_key(call):
    """A class of keys that wait.

    How often __eq__ is called is not certain: a lookup without the dict's lock begins
    again, with the lock, at a key that was made on another OS thread.
    """
    equal = call.apart()

    class Key:
        def __init__(self, n):
            self.n = n

        def __hash__(self):
            call(self.n)
            return self.n & 1

        def __eq__(self, other):
            equal(self.n)
            return self.n == other.n

    return Key


@op(forbids=RESTRICTED)
def dict_keys(run, call, n):
    Key = make_key(call)
    table = {Key(i): i for i in range(n)}
    return [table.get(Key(n - 1)), table.pop(Key(n), None), len(table)]


@op(forbids=RESTRICTED)
def set_keys(run, call, n):
    Key = make_key(call)
    both = {Key(i) for i in range(n)} & {Key(0), Key(2)}
    return sorted(key.n for key in both)


@op()
def attributes(run, call, n):
    class Descriptor:
        def __get__(self, instance, owner):
            return call(n)

        def __set__(self, instance, value):
            call(value)

    class Attributes:
        descriptor = Descriptor()

        @property
        def prop(self):
            return call(n)

        @functools.cached_property
        def cached(self):
            return call(n)

        def __getattr__(self, name):
            return call(len(name))

        def __setattr__(self, name, value):
            super().__setattr__(name, value + call(value))

    attributes = Attributes()
    attributes.value = n
    return [attributes.descriptor, attributes.prop, attributes.cached, attributes.cached,
            attributes.missing, attributes.value, getattr(attributes, "absent", 0)][n:]


@op()
def set_descriptor(run, call, n):
    class Descriptor:
        def __set_name__(self, owner, name):
            self.name = (name, call(n))

        def __set__(self, instance, value):
            call(value)

        def __delete__(self, instance):
            call()

    class Owner:
        descriptor = Descriptor()

        def __init_subclass__(cls):
            cls.value = call()

    owner = type("Derived", (Owner,), {})()
    owner.descriptor = n
    del owner.descriptor
    return [vars(Owner)["descriptor"].name, owner.value]


@op()
def metaclass(run, call, n):
    class Meta(type):
        def __call__(cls, value):
            return super().__call__(value + call(value))

        def __instancecheck__(cls, instance):
            return call() & 1

    class Made(metaclass=Meta):
        def __new__(cls, value):
            call()
            return super().__new__(cls)

        def __init__(self, value):
            self.value = call(value)

    return [Made(n).value, isinstance(n, Made)]


@op()
def special_methods(run, call, n):
    class Special:
        def __index__(self):
            return call() & 1

        def __bool__(self):
            return call() & 1 == 1

        def __str__(self):
            return str(call())

        def __format__(self, spec):
            return str(call())

        def __add__(self, other):
            return call()

        __rsub__ = __getitem__ = __pow__ = __add__

        def __call__(self):
            return call()

        def __contains__(self, item):
            return call() & 1 == 1

    special = Special()
    return [lambda: ("ab"[special], range(special), 1 in special),
            lambda: (f"{special}", "%s" % special, 1 if special else 2),
            lambda: (special + 1, 1 - special, pow(special, 2), special[1], special())][n - 1]()


@op()
def json_default(run, call, n):
    return json.dumps([object()] * n, default=lambda value: call(n))


@op()
def json_hook(run, call, n):
    return json.loads('[{"a": 1}, {"b": {"c": 2}}]', object_hook=lambda pairs: call(n))


@op()
def re_sub(run, call, n):
    return re.sub(r"\d", lambda match: str(call(int(match[0]))), "a1b2c3"[:2 * n])


@op(forbids=RESTRICTED)
def lru_cache_(run, call, n):
    Key = make_key(call)

    @functools.lru_cache(maxsize=2)
    def cached(key):
        return call(key.n)

    return [cached(Key(i & 1)) for i in range(n + 1)]


@op()
def partial_(run, call, n):
    return functools.partial(operator.call, functools.partial(call, n))()


@op()
def deepcopy(run, call, n):
    class Copied:
        def __deepcopy__(self, memo):
            return call(n)

    return copy.deepcopy([Copied(), {n: Copied()}])


@op()
def pickle_(run, call, n):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return call(n) if isinstance(value, float) else None

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, value):
            return call(value)

    file = io.BytesIO()
    Pickler(file).dump([1.5] * n)
    file.seek(0)
    return Unpickler(file).load()


@op()
def expat_(run, call, n):
    found = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(call(len(name)))
    parser.Parse("<a><bb/><ccc/></a>", True)
    return found


@op()
def csv_(run, call, n):
    return list(csv.reader(f"{i},{call(i)}" for i in range(n)))


@op()
def raw_file(run, call, n):
    class Raw(io.RawIOBase):
        left = n

        def readable(self):
            return True

        def readinto(self, buffer):
            line = b"%d\n" % call()
            self.left -= 1
            buffer[:len(line)] = line
            return len(line) if self.left >= 0 else 0

    return io.TextIOWrapper(io.BufferedReader(Raw())).readlines()
