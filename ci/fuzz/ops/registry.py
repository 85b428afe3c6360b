"""What operations are registered by, and what they share."""

import contextvars
from collections import namedtuple

PATIENCE_S = 1000               # for what another thread does; longer than execute.py has
MODULE_PREFIX = "fuzz_module_"

Op = namedtuple("Op", "name function leaf tags forbids")
OPS = {}

# What is called an uncertain number of times, or in another thread, is executed apart, and
# has to leave all others alone.
RESTRICTED = ("shared", "meet", "elsewhere", "finalizer", "overflow")

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
