"""Objects that go: finalizers, weak references, the collector."""

import gc
import threading
import time
import weakref

from ops.registry import PATIENCE_S, RESTRICTED, op, wait, wait_for


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
