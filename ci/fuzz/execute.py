"""Runs tests of the fuzzer: the program alone on a platform thread, then its copies.

    python execute.py [--carriers N] [--platform] FILE...

Each file holds one test as JSON (program.py).  All copies of its program, on virtual
threads and beside a collector and threads that compute, must return, or raise with the
same traceback, what one platform thread did.  With --platform the copies are platform
threads too: what fails then is not the work of virtual threads.

Prints "begin FILE" and "passed FILE" or "failed FILE" for each; a test that does not end
is dumped and ends the process.
"""

import argparse
import faulthandler
import gc
import importlib.abc
import importlib.machinery
import itertools
import json
import os
import queue
import sys
import threading
import traceback
import types
import zlib

import ops
import virtual_threading

# A test takes well below a second, in hard some seconds.  Turns, not seconds, are counted,
# since a busy machine slows the loop that counts as well as what it waits for.
TURN_S = 0.1
HANG_TURNS = 900
STUCK_S = 1500                  # when nobody counts any more
BUDGET = 150                    # nodes that a run executes, and that a finalizer does
BUDGET_APART = 8

platform_threads = types.SimpleNamespace(
    Thread=threading.Thread, yield_now=virtual_threading.yield_now,
    pin=virtual_threading.pin)


class Shared:
    """What the copies of a program have in common."""

    def __init__(self, copies, modules):
        self.lock = threading.RLock()
        self.counter = 0
        self.barrier = threading.Barrier(copies)
        self.simple_queue = queue.SimpleQueue()
        self.locked_queues = [queue.Queue(), queue.LifoQueue()]
        self.table = {}
        self.object = type("Object", (), {})()
        self.local = threading.local()
        self.modules = modules


class Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules whose bodies are functions."""

    def __init__(self):
        self.bodies = {}

    def find_spec(self, name, path, target=None):
        if name in self.bodies:
            return importlib.machinery.ModuleSpec(name, self)

    def exec_module(self, module):
        self.bodies[module.__name__](module)


class Call:
    """Executes the children of a node, in turn."""

    def __init__(self, run, children):
        self.run = run
        self.children = children
        self.turns = itertools.cycle(children)

    def __call__(self, x=0):
        return self.run.execute(next(self.turns), x)

    def apart(self):
        """A function that executes a child, and counts for itself each time."""
        run = self.run

        def execute(x=0):
            return Run(run.threads, run.shared, run.me, BUDGET_APART).execute(
                self.children[0], x)

        return execute


class Run:
    """One execution of a program, by one thread (and helpers, for which it waits)."""

    def __init__(self, threads, shared, me, budget=BUDGET):
        self.threads = threads          # the module virtual_threading, or the like of it
        self.shared = shared
        self.me = me                    # which copy this is
        self.left = budget
        self.seen = 0                   # a checksum of all values so far
        self.trace = []                 # what they were
        self.added = 0                  # to the shared counter
        self.imported = 0

    def execute(self, node, x=0):
        """Executes a node; returns a number that stands for what the node returned."""
        name, number, children = node
        if self.left <= 0:
            return x
        self.left -= 1
        value = ops.OPS[name].function(self, Call(self, children), number)
        return self.note((name, value))

    def note(self, value):
        self.trace.append(repr(value))
        self.seen = zlib.crc32(self.trace[-1].encode(), self.seen)
        return self.seen

    def spawn(self, function):
        thread = self.threads.Thread(target=function)
        thread.start()
        return thread

    def module(self, body):
        """The name of the module that all copies import at this point."""
        self.imported += 1
        name = f"{ops.MODULE_PREFIX}{self.imported}"
        self.shared.modules.bodies.setdefault(name, body)
        return name

    def outcome(self, node):
        """What can be compared: value or exception, and what was seen on the way."""
        try:
            result = ["returned", self.execute(node)]
        except Exception as error:
            result = ["raised", *describe(error)]
        return {"result": result, "seen": self.seen, "added": self.added,
                "trace": self.trace}


def describe(error):
    """An exception, its traceback and its context, without lines that edits move."""
    if error is None:
        return []
    frames = [(code.co_name, line - code.co_firstlineno) for code, line in
              ((frame.f_code, line) for frame, line
               in traceback.walk_tb(error.__traceback__))]
    return [type(error).__name__, repr(error.args), frames,
            describe(error.__cause__), describe(error.__context__)]


def collect_garbage(stop):
    while not stop.wait(0.02):
        gc.collect()


def compute(stop, threads):
    for turn in itertools.count():
        if stop.is_set():
            return
        # Now and then for longer than a time slice.
        sum(range(1_000_000 if turn % 50 == 0 else 10_000))
        threads.yield_now()


def hang(threads):
    print(f"no end after {HANG_TURNS} turns of {TURN_S} s", flush=True)
    for thread in threads:
        if thread.is_alive():
            print(f"alive: {thread}", flush=True)
    virtual_threading.dump(sys.stdout)
    sys.stdout.flush()
    faulthandler.dump_traceback(sys.stdout)
    os._exit(1)


def run(threads, program, copies, busy):
    """The outcomes of all copies of a program, and the shared counter's value.

    busy: beside a collector, and a thread that computes.
    """
    modules = Modules()
    sys.meta_path.insert(0, modules)
    shared = Shared(copies, modules)
    outcomes = [None] * copies

    def execute(me):
        outcomes[me] = Run(threads, shared, me).outcome(program)

    stop = threading.Event()
    started = []
    if busy:
        started.append(threading.Thread(target=collect_garbage, args=(stop,)))
        started.append(threads.Thread(target=compute, args=(stop, threads)))
    workers = [threads.Thread(target=execute, args=(me,)) for me in range(copies)]
    started += workers
    for thread in started:
        thread.start()
    turns = itertools.count()
    for thread in workers + started:
        if thread not in workers:
            stop.set()
        while thread.is_alive():
            if next(turns) == HANG_TURNS:
                hang(started)
            thread.join(TURN_S)
    sys.meta_path.remove(modules)
    for name in modules.bodies:
        sys.modules.pop(name, None)
    return outcomes, shared.counter


def check(test, threads):
    """What is wrong with a test's outcomes, line by line."""
    program, copies = test["program"], test["copies"]
    [wanted], added = run(platform_threads, program, 1, busy=False)
    if added != wanted["added"]:
        yield f"the shared counter is {added}, not {wanted['added']}, without other threads"
    outcomes, added = run(threads, program, copies, busy=True)
    if added != copies * wanted["added"]:
        yield f"the shared counter is {added}, not {copies} * {wanted['added']}"
    for me, outcome in enumerate(outcomes):
        if outcome != wanted:
            yield f"copy {me}: {difference(outcome, wanted)}"


def difference(outcome, wanted):
    """The first values that differ, or else the results."""
    for place, (one, other) in enumerate(zip(outcome["trace"], wanted["trace"])):
        if one != other:
            return f"value {place} is {one}, not {other}"
    return (f"{len(outcome['trace'])} values, not {len(wanted['trace'])}\n"
            f"  got:    {outcome['result']}\n  wanted: {wanted['result']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--carriers", type=int)
    parser.add_argument("--platform", action="store_true")
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()

    faulthandler.enable(sys.stdout)
    virtual_threading.configure(parallelism=options.carriers)
    threads = platform_threads if options.platform else virtual_threading
    problems = []
    # An exception that nobody can catch is one that should not be.
    sys.unraisablehook = threading.excepthook = lambda args: problems.append(
        "".join(traceback.format_exception(args.exc_value)))
    failed = False
    for name in options.files:
        print(f"begin {name}", flush=True)
        with open(name) as file:
            test = json.load(file)
        # From a thread of C, in case that no Python runs any more.
        faulthandler.dump_traceback_later(STUCK_S, exit=True, file=sys.stdout)
        found = list(check(test, threads)) + problems
        faulthandler.cancel_dump_traceback_later()
        problems.clear()
        print(*found, f"{'failed' if found else 'passed'} {name}", sep="\n", flush=True)
        failed = failed or bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(main())
