"""The operations of which the fuzzer makes programs.

An operation is a function of (run, call, n).  run is the Run of execute.py; call(x=0)
executes the next of the operation's children and returns an int; call.apart() makes a
function that does so in another thread, or later; n is a number from 1 to 3.  What an
operation returns, or raises, must not depend on when other threads run: it is compared
with what a platform thread gets that is alone.

An operation without children is a leaf, and mostly a way to wait.  Tags say what an
operation does that must not be done below another one, which forbids them:

    shared      takes the lock that all copies of the program share
    meet        waits for all copies
    elsewhere   calls its children in another thread, which does not own that lock
    finalizer   waits until an object has gone, or runs the collector
    overflow    recurses to the limit
"""

import bisect
import concurrent.futures
import contextlib
import contextvars
import copy
import csv
import ctypes
import functools
import gc
import heapq
import importlib
import io
import itertools
import json
import operator
import os
import pickle
import queue
import re
import select
import socket
import sqlite3
import sys
import threading
import time
import weakref
from collections import namedtuple
from xml.parsers import expat

PATIENCE_S = 1000               # for what another thread does; longer than execute.py has
MODULE_PREFIX = "fuzz_module_"

Op = namedtuple("Op", "name function leaf tags forbids")
OPS = {}

variable = contextvars.ContextVar("variable", default=0)


class Fault(Exception):
    """What programs raise."""


def op(*tags, leaf=False, forbids=()):
    def register(function):
        name = function.__name__.rstrip("_")
        OPS[name] = Op(name, function, leaf, frozenset(tags), frozenset(forbids))
        return function
    return register


def wait(*tags):
    return op(*tags, leaf=True)


def wait_for(event, what):
    if not event.wait(PATIENCE_S):
        raise TimeoutError(what)


# -- ways from C into Python


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


# What is called an uncertain number of times, or in another thread, is executed apart, and
# has to leave all others alone.
RESTRICTED = ("shared", "meet", "elsewhere", "finalizer", "overflow")


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


# -- foreign frames: these pin the thread


class Guard:
    """Carries an exception past C code that can't."""

    def __init__(self, function):
        self.function = function
        self.caught = None

    def __call__(self, *args):
        if self.caught is None:
            try:
                return self.function(*args)
            except Exception as error:
                self.caught = error
        return 0

    def check(self):
        try:
            if self.caught is not None:
                raise self.caught
        finally:
            self.caught = None


@op()
def ctypes_callback(run, call, n):
    guard = Guard(lambda x: call(x) & 0xffff)
    result = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(guard)(n)
    guard.check()
    return result


@op()
def ctypes_qsort(run, call, n):
    number = ctypes.POINTER(ctypes.c_int)
    guard = Guard(lambda a, b: (call(), a[0] - b[0])[1])
    compare = ctypes.CFUNCTYPE(ctypes.c_int, number, number)(guard)
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    ctypes.CDLL(None).qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), compare)
    guard.check()
    return list(numbers)


@op()
def sqlite_function(run, call, n):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("f", 1, call)
        return connection.execute("select f(x) from (select 1 as x union select 2)"
                                  ).fetchall()


@op()
def sqlite_aggregate(run, call, n):
    class Aggregate:
        total = 0

        def step(self, value):
            self.total += call(value)

        def finalize(self):
            return call(self.total & 0xff)

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.create_aggregate("f", 1, Aggregate)
        return connection.execute("select f(x) from (select 1 as x union select 2)"
                                  ).fetchall()


# -- control flow


@wait()
def raise_(run, call, n):
    raise Fault(n)


@op()
def try_except(run, call, n):
    try:
        return call(n)
    except Fault as fault:
        value = call(n)
        return ["caught", fault.args, value, sys.exception() is fault]


@op()
def try_finally(run, call, n):
    try:
        return call(n)
    finally:
        run.note(call(n))


@op()
def raise_from(run, call, n):
    try:
        return call(n)
    except Exception as error:
        raise Fault(n) from error


@op()
def raise_group(run, call, n):
    errors = []
    for i in range(n):
        try:
            call(i)
        except Fault as fault:
            errors.append(fault)
    caught = []
    try:
        if errors:
            raise ExceptionGroup("faults", errors)
    except* Fault as group:
        caught = [len(group.exceptions), call(n)]
    return caught


@op()
def with_block(run, call, n):
    class Manager:
        def __enter__(self):
            return call(n)

        def __exit__(self, *exc_info):
            call()
            return n == 1 and exc_info[0] is Fault

    with Manager() as value:
        return [value, call()]


@op()
def with_generator(run, call, n):
    @contextlib.contextmanager
    def manager():
        try:
            yield call(n)
        finally:
            run.note(call())

    with manager() as value, contextlib.suppress(Fault):
        return [value, call()]


@op()
def generator(run, call, n):
    def inner():
        for i in range(n):
            got = yield call(i)
            run.note(got)
        return call(n)

    def outer():
        yield (yield from inner())

    numbers = outer()
    values = [next(numbers)]
    with contextlib.suppress(StopIteration):
        for i in range(9):
            values.append(numbers.send(i))
    return values


@op()
def generator_throw(run, call, n):
    def numbers():
        try:
            yield n
        except KeyError:
            yield call(n)

    found = numbers()
    return [next(found), found.throw(KeyError), next(found, None)]


@op()
def generator_close(run, call, n):
    def numbers():
        try:
            yield n
        finally:
            run.note(call(n))

    with contextlib.closing(numbers()) as found:
        return next(found)


@op()
def coroutine(run, call, n):
    class Awaitable:
        def __await__(self):
            yield call(n)
            return call()

    class Manager:
        async def __aenter__(self):
            return await Awaitable()

        async def __aexit__(self, *exc_info):
            call()

    async def numbers():
        for i in range(n):
            yield await Awaitable()

    async def main():
        async with Manager() as value:
            return [value, [number async for number in numbers()]]

    running = main()
    try:
        while True:
            running.send(None)
    except StopIteration as stop:
        return stop.value


@op()
def recursion(run, call, n):
    def down(depth):
        return down(depth - 1) + 1 if depth else call(n)

    return down(20 * n)


@op()
def recursion_in_c(run, call, n):
    def down(depth):
        return next(map(down, [depth - 1])) + 1 if depth else call(n)

    return down(7 * n)


@wait("overflow")
def overflow(run, call, n):
    def down(depth):
        return [lambda: down(depth + 1), lambda: sorted([depth + 1], key=down),
                lambda: list(map(down, [depth + 1]))][n - 1]()

    try:
        down(0)
    except RecursionError:
        return "overflow"


@op()
def context_run(run, call, n):
    def inside():
        token = variable.set(n)
        value = call(n)
        same = variable.get() == n
        variable.reset(token)
        return [value, same, variable.get()]

    outside = variable.get()
    return [contextvars.copy_context().run(inside), variable.get() == outside]


@op()
def thread_local(run, call, n):
    before = getattr(run.shared.local, "value", None)
    run.shared.local.value = mine = object()
    try:
        return [call(n), run.shared.local.value is mine]
    finally:
        run.shared.local.value = before


@op()
def pin(run, call, n):
    with run.threads.pin():
        return call(n)


# -- objects that go


class Gone:
    """Runs a child in its finalizer, in whatever thread that may be."""

    def __init__(self, child):
        self.child = child
        self.event = threading.Event()

    def finish(self, *args):
        try:
            self.value = self.child()
        except Exception as error:
            self.value = repr(error)
        finally:
            self.event.set()

    def result(self):
        wait_for(self.event, "a finalizer")
        return self.value


@op("finalizer", forbids=RESTRICTED)
def del_(run, call, n):
    class Object:
        def __del__(self):
            gone.finish()

    gone = Gone(call.apart())
    Object()
    return gone.result()


@op("finalizer", forbids=RESTRICTED)
def del_in_list(run, call, n):
    class Object:
        def __del__(self):
            gone.finish()

    gone = Gone(call.apart())
    objects = [[Object()], 1]
    run.threads.yield_now()
    objects.clear()
    return gone.result()


@op("finalizer", forbids=RESTRICTED)
def weakref_callback(run, call, n):
    class Object:
        pass

    gone = Gone(call.apart())
    target = Object()
    reference = weakref.ref(target, gone.finish)
    run.threads.yield_now()
    del target
    return [gone.result(), reference() is None]


@op("finalizer", forbids=RESTRICTED)
def del_in_cycle(run, call, n):
    class Object:
        def __del__(self):
            gone.finish()

    gone = Gone(call.apart())
    cycle = Object()
    cycle.self = cycle
    del cycle
    deadline = time.monotonic() + PATIENCE_S
    # Another thread may be collecting, and then this call does nothing.
    while not gone.event.is_set() and time.monotonic() < deadline:
        gc.collect()
        gone.event.wait(0.01)
    return gone.result()


@wait("finalizer")
def collect(run, call, n):
    gc.collect(n - 1)


# -- other threads


@op("elsewhere", forbids=("finalizer",))
def in_thread(run, call, n):
    results = []

    def child():
        try:
            results.append(call(n))
        except Exception as error:
            results.append(repr(error))

    run.spawn(child).join()
    return results


@op("elsewhere", forbids=("finalizer",))
def generator_elsewhere(run, call, n):
    """A generator that is resumed by two threads, in turn."""
    def numbers():
        for i in range(3):
            try:
                yield call(i)
            except Exception as error:
                yield repr(error)

    found = numbers()
    results = [next(found)]
    run.spawn(lambda: results.append(next(found))).join()
    results.append(next(found))
    return results


@op("elsewhere", forbids=RESTRICTED)
def import_(run, call, n):
    """All copies import one module, whose body waits; one of them executes it."""
    apart = call.apart()

    def body(module):
        try:
            module.value = apart()
        except Exception as error:
            module.value = repr(error)

    return importlib.import_module(run.module(body)).value


@op("shared", forbids=("meet", "elsewhere"))
def shared_lock(run, call, n):
    with run.shared.lock:
        try:
            return call(n)
        finally:
            before = run.shared.counter
            run.threads.yield_now()
            run.shared.counter = before + 1
            run.added += 1


@wait()
def shared_dict(run, call, n):
    """Keys of all copies in one dict, with equal hashes and an __eq__ that waits."""
    # A lookup starts again when the dict has changed meanwhile, which must have an end.
    turns = iter(range(4))

    class Key(tuple):
        def __hash__(self):
            return 1

        def __eq__(self, other):
            if next(turns, None) is not None:
                run.threads.yield_now()
            return tuple.__eq__(self, other)

    key = Key((run.me, n))
    table = run.shared.table
    table[key] = n
    run.threads.yield_now()
    return [table[key], Key((run.me, n)) in table, table.pop(key)]


@wait()
def shared_object(run, call, n):
    name = f"of_{run.me}"
    target = [run.shared.object, type(run.shared.object)][n & 1]
    setattr(target, name, n)
    run.threads.yield_now()
    value = getattr(target, name)
    delattr(target, name)
    return [value, hasattr(target, name)]


@wait()
def shared_queue(run, call, n):
    # Each copy gives before it takes, so there is one for everybody.
    messages = run.shared.queues[n - 1]
    messages.put(n)
    return messages.get()


@wait("meet")
def meet(run, call, n):
    run.shared.barrier.wait(PATIENCE_S)


# -- ways to wait


@wait()
def yield_now(run, call, n):
    for _ in range(n):
        run.threads.yield_now()


@wait()
def sleep(run, call, n):
    time.sleep([0, 0.0001, 0.002][n - 1])


@wait()
def compute(run, call, n):
    return sum(i * i for i in range(300 * 10 ** (n - 1)))


@wait()
def lock(run, call, n):
    """A lock that a helper holds, or one that this thread does."""
    mine = threading.Lock()
    mine.acquire()
    if n == 1:
        return mine.acquire(timeout=0.001)
    helper = run.spawn(lambda: (run.threads.yield_now(), mine.release()))
    got = mine.acquire()
    helper.join()
    return got


@wait()
def event(run, call, n):
    event = threading.Event()
    helper = run.spawn(event.set)
    got = event.wait()
    helper.join()
    return [got, threading.Event().wait(0.0002 * n)]


@wait()
def condition(run, call, n):
    condition = threading.Condition()
    ready = []

    def notify():
        with condition:
            ready.append(n)
            condition.notify_all()

    with condition:
        helper = run.spawn(notify)
        condition.wait_for(lambda: ready)
    helper.join()
    return ready


@wait()
def queues(run, call, n):
    messages = [queue.SimpleQueue, queue.Queue, queue.PriorityQueue][n - 1]()
    helper = run.spawn(lambda: [messages.put(i) for i in range(n)])
    got = [messages.get() for _ in range(n)]
    helper.join()
    return got


@wait()
def future(run, call, n):
    future = concurrent.futures.Future()
    helper = run.spawn(lambda: future.set_result(n))
    got = future.result()
    helper.join()
    return got


@wait()
def pipe(run, call, n):
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as reader, open(writer, "wb", buffering=0) as writer:
        helper = run.spawn(lambda: (run.threads.yield_now(), writer.write(b"x" * n)))
        if n == 3:
            select.select([reader], [], [])
        got = reader.read(n)
        helper.join()
    return got


@wait()
def sockets(run, call, n):
    one, other = socket.socketpair()
    with one, other:
        if n == 3:
            other.settimeout(PATIENCE_S)
        helper = run.spawn(lambda: (run.threads.yield_now(), one.sendall(b"x" * n)))
        got = other.recv(n)
        helper.join()
    return got


@wait()
def file(run, call, n):
    with open(os.devnull, "w+") as file:
        file.write("x" * n)
        return file.read()
