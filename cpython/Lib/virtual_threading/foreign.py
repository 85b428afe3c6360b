"""Foreign native frames: which ones a thread may park below, and who pins.

A thread that waits below a frame of code that is not the interpreter's own keeps its OS
thread: it is pinned.  That is always correct, and costs an OS thread while it lasts.
"""

import os
import sys
import threading
import traceback

import _vthread

from .thread import Thread

__all__ = ['declare_park_safe', 'park_safe_modules', 'set_pin_handler']


def declare_park_safe(module_name):
    """Let threads leave their OS thread below frames of an extension module.

    *module_name* is the full name of an extension module or of a package, which stands
    for all extension modules in it.  It need not be imported yet.  Libraries that such
    a module is linked with are not covered.

    A thread that waits below frames of these modules, and of the interpreter, parks, and
    is resumed by the same OS thread; its stack stays where it is.  Other threads run on
    that OS thread meanwhile, and may enter the module.  So declare a module only if,
    around its calls of Python code, it holds no lock and does not rely on what it has
    left in a thread-local.  A thread that is woken while another one is pinned to its OS
    thread waits until that one is done.

    A C author says the same in the module's slots by
    ``{Py_mod_park_safe, Py_MOD_PARK_SAFE}``.  It can't be taken back.
    """
    _vthread.declare_park_safe(module_name)
    for name, module in list(sys.modules.items()):
        if name == module_name or name.startswith(module_name + '.'):
            _vthread.mark_park_safe(module)


def park_safe_modules():
    """The set of names that were declared park-safe, by a call or a module's slot."""
    return _vthread.park_safe_modules()


# _lock guards both: what the reports go to, and the thread that calls it, while there is one.
_lock = threading.Lock()
_handler = None
_reporter = None


def set_pin_handler(func):
    """Have *func* called when a virtual thread is pinned: when it waits on its OS thread.

    It is called by a thread of its own as ``func(thread, reason, stack)``: the
    threading.Thread or None, a str such as "foreign native frame (libffi.so.8)", and a
    traceback.StackSummary of the thread's Python frames when the wait began, innermost
    last.  At most ten pins a second are reported; stats()['pins'] and
    stats()['pinned_by'] count all.  What *func* raises, SystemExit included, goes to
    threading.excepthook, and the reports go on.  None ends them.

    ``python -X virtual_threads_trace_pins`` prints them to stderr.

    Raises TypeError if *func* is neither callable nor None.
    """
    if func is not None and not callable(func):
        raise TypeError(f"func must be callable or None, not {type(func).__name__}")
    global _handler
    with _lock:
        _handler = func
        _vthread.watch_pins(func is not None)
        if func is not None:
            _start_lock_held()


def _start_lock_held():
    global _reporter
    if _reporter is None:
        reporter = Thread(target=_report, name='pin-handler', daemon=True)
        reporter.start()
        _reporter = reporter


def _next_pin():
    # (pin, handler), or None for the end.
    global _reporter
    while True:
        pin = _vthread.next_pin()
        with _lock:
            if _handler is None:
                _reporter = None
                return None
            if pin is not None:
                return pin, _handler


def _report_next():
    # False for the end.  A function, so that nothing is kept alive until the next one.
    found = _next_pin()
    if found is None:
        return False
    (thread, reason, library, stack), handler = found
    if library is not None:
        reason = f"{reason} ({library})"
    stack = traceback.StackSummary.from_list(
        (file, line, function, None) for file, line, function in stack)
    handler(thread, reason, stack)
    return True


def _report():
    goes_on = True
    while goes_on:
        try:
            goes_on = _report_next()
        except BaseException:
            # Without this thread a handler that is set later would not be called, either.
            Thread._invoke_excepthook(threading.current_thread())


def _after_fork_in_child():
    global _reporter
    _lock._at_fork_reinit()
    _reporter = None
    if _handler is not None:
        _start_lock_held()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
