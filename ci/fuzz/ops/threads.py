"""Other threads, and what all copies of a program share."""

import importlib

from ops.registry import PATIENCE_S, RESTRICTED, op, wait


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


def put_and_get(messages, n):
    # Each copy gives before it takes, so there is one for everybody.
    messages.put(n)
    return type(messages.get()) is int


@wait()
def shared_queue(run, call, n):
    return put_and_get(run.shared.simple_queue, n)


# Its lock may be held where a finalizer comes to run: only a SimpleQueue is made for that.
@wait("shared")
def shared_locked_queue(run, call, n):
    return put_and_get(run.shared.locked_queues[n & 1], n)


@wait("meet")
def meet(run, call, n):
    run.shared.barrier.wait(PATIENCE_S)
