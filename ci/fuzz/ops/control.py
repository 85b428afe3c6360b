"""Control flow: exceptions, generators, coroutines, recursion, contexts."""

import contextlib
import contextvars
import sys

from ops.registry import Fault, op, variable, wait


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
        return [value, same, variable.get() == outside]

    # Below a finalizer, of whatever thread runs that.
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
