"""Callbacks by way of foreign frames: these pin the thread."""

import contextlib
import ctypes
import sqlite3

from ops.registry import op


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
