"""Virtual threads: threading.Thread objects that cost a few KiB and park.

A virtual thread runs plain blocking code.  When it has to wait (for a lock, a socket, a
child process, the time), it parks: the OS thread that carried it, its carrier, runs
other virtual threads meanwhile.  The carriers, one a core, run them without a GIL and
preempt those that compute for long.  A virtual thread can be switched at any time, as a
platform thread can: what needs a lock there needs one here.

    import virtual_threading as threading

is enough for a program written for threading.  Locks, queues, locals and hooks are the
same objects in both modules, and one lock serves threads of both kinds.  What this
module changes is Thread and Timer.  To make all threads of an unmodified program
virtual, those of the children of multiprocessing included, run it by
``python -X virtual_threads``.

Without a virtual thread, nothing of the runtime exists: no OS thread is started and no
call takes another way.
"""

import sys
import threading
import types

from importlib import import_module as _import_module
from threading import *
from threading import activeCount, currentThread

from .control import configure, pin, stats, yield_now
from .dump import dump
from .foreign import declare_park_safe, park_safe_modules, set_pin_handler
from .interrupt import Interrupted, ScopeCancelled
from .thread import Thread, is_virtual, spawn
from .timeout import deadline, timeout
from .timer import Timer

__all__ = [name for name in threading.__all__ if name != 'excepthook']
__all__ += ['excepthook', 'spawn', 'yield_now', 'is_virtual', 'pin', 'configure',
            'stats', 'dump', 'declare_park_safe', 'park_safe_modules', 'set_pin_handler',
            'Interrupted', 'ScopeCancelled', 'timeout', 'deadline', 'TaskScope',
            'run_coroutine', 'as_awaitable']

# The hook is read from, and assigned to, the module threading: see below.
del excepthook


class _Module(types.ModuleType):
    # A program that does "import virtual_threading as threading" assigns to
    # threading.excepthook, and the threads look for it in the real one.

    @property
    def excepthook(self):
        """Handles uncaught exceptions of threads; the one of the module threading."""
        return threading.excepthook

    @excepthook.setter
    def excepthook(self, hook):
        threading.excepthook = hook

    @excepthook.deleter
    def excepthook(self):
        threading.excepthook = threading.__excepthook__

    # Functions that name this module are sent to other processes, by what pickles modules of
    # the exact type only.
    def __reduce__(self):
        return _import_module, (self.__name__,)


# Imported when they are asked for, as concurrent.futures and asyncio are big.
_LATE = {'TaskScope': 'scope', 'run_coroutine': 'bridge', 'as_awaitable': 'bridge'}


def __getattr__(name):
    if name in _LATE:
        module = _import_module('.' + _LATE[name], __name__)
        globals()[name] = value = getattr(module, name)
        return value
    # What is in threading, but not in its __all__: __excepthook__, _RLock, ...
    if name in {'__path__', '__all__', '__wrapped__'}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(threading, name)
    except AttributeError:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}") from None


def __dir__():
    return sorted(globals().keys() | set(__all__))


sys.modules[__name__].__class__ = _Module
del sys, types
