"""Scopes: threads that end before the block in which they were started.

Problem solved: a thread that is started and forgotten.  Its failure goes unseen, nobody
stops it when its result is no longer wanted, and it outlives what it works with.  In a
scope the failure of one child ends the others, and the block ends when all of them have.

    who                  does
    a child that fails   gives the scope up: refuses new children, drops those that wait for
                         their turn, interrupts the others and the body by ScopeCancelled
    the block's end      joins all children, and raises what has failed
    an interrupt of the  gives the scope up, is raised again when all children have ended
    body, from outside

Everything that changes is guarded by the scope's lock; nothing is called under it but what
starts and interrupts threads.  What a scope does for itself is shielded from interrupts.

Not here: the waiting and interrupting themselves, which are _vthread's.
"""

import _vthread
import itertools
import operator
import sys
import threading
import time

from collections import deque
from concurrent.futures import Future
from contextvars import copy_context

from .interrupt import Interrupted, ScopeCancelled
from .thread import Thread
from .timeout import Timeout

__all__ = ['TaskScope']

_shield = _vthread.shield
_unshield = _vthread.unshield
_scope_numbers = itertools.count(1)

# What ends a process is not put into a group, as in asyncio.TaskGroup.
_BARE = (KeyboardInterrupt, SystemExit)


class Task(Future):
    """A child of a scope: a concurrent.futures.Future that knows its thread.

    cancel() interrupts it by ScopeCancelled if it runs already; it is cancelled() if it ends
    by that, or by any other Interrupted.
    """

    def __init__(self, scope, call):
        super().__init__()
        self._scope = scope
        self._call = call
        self._context = copy_context()
        self._cancel_exc = ScopeCancelled("cancelled")
        self._thread = None

    @property
    def thread(self):
        """Its virtual thread; None while it waits for its turn (max_concurrency)."""
        return self._thread

    def running(self):
        """Whether it has been started and has not ended."""
        return self._thread is not None and not self.done()

    def __repr__(self):
        # The future itself says "pending" up to the end: a running one could not be cancelled.
        if self.running():
            return f"<{type(self).__name__} at {id(self):#x} state=running>"
        return super().__repr__()

    def cancel(self):
        """Cancel it if it waits for its turn, or else interrupt its thread.

        False if it has ended already.  Does not wait until it has ended.
        """
        return self._scope._cancel(self)

    def _start(self):
        self._thread = _Child(self)
        try:
            self._thread.start()
        except BaseException:
            self._thread = None
            raise

    def _interrupt(self):
        return not self.done() and self._thread.interrupt(self._cancel_exc)

    def _set_cancelled(self):
        super().cancel()
        self.set_running_or_notify_cancel()

    def _run(self):
        # In its thread.
        scope = self._scope
        func, args, kwargs = self._call
        self._call = None
        alarm = None
        try:
            try:
                if scope._when is not None:
                    alarm = ScopeCancelled("deadline")
                    _vthread.set_alarm(alarm, scope._when)
                try:
                    result = func(*args, **kwargs)
                finally:
                    del func, args, kwargs
            finally:
                _shield()
                if alarm is not None:
                    _vthread.drop_alarm(alarm)
        except Interrupted as exc:
            self._set_cancelled()
            if exc is alarm:
                scope._expire()
        except BaseException as exc:
            self.set_exception(exc)
            scope._child_failed(exc)
        else:
            self.set_result(result)
            scope._child_succeeded(self)
        finally:
            self = alarm = None         # the traceback of what was raised has this frame
            scope._child_ended()


class _Child(Thread):
    __slots__ = ('_task', '_scope')

    def __init__(self, task):
        super().__init__(None, task._call[0], context=task._context)
        self._task = task
        self._scope = task._scope

    def run(self):
        task = self._task
        del self._task, self._target
        task._run()
        del task                        # that frame leads to this one


class TaskScope:
    """Context manager: virtual threads that have ended when the block ends.

    *max_concurrency*: how many children run at once; others wait for their turn, and spawn()
    does not block.  *deadline*: a time.monotonic() at which the block's blocking calls and the
    children are interrupted, and TimeoutError is raised at the block's end.  *name* is for
    dumps.

    When a child fails, the scope is given up: the other children and the body are interrupted
    by ScopeCancelled, and the block's end raises an ExceptionGroup of all that has failed,
    with the body's own exception if there is one.  KeyboardInterrupt and SystemExit are raised
    as they are.  A child that ends by an Interrupted is cancelled, and has not failed.

    Children inherit the context variables of the thread that spawns them, and the deadline:
    the scope's own, or that of a timeout around it, which then raises its TimeoutError.

    May be used from a platform thread, too.  Its body then is not interrupted: it learns of a
    failure by the RuntimeError of spawn(), or at the block's end.
    """

    def __init__(self, *, max_concurrency=None, deadline=None, name=None):
        if max_concurrency is not None and operator.index(max_concurrency) < 1:
            raise ValueError("max_concurrency must be at least 1")
        if deadline is not None and not isinstance(deadline, float):
            deadline = operator.index(deadline)
        if deadline != deadline:
            raise ValueError("deadline must not be NaN")
        self.name = f"TaskScope-{next(_scope_numbers)}" if name is None else str(name)
        self._free = max_concurrency    # how many more may run; None: no limit
        self._deadline = deadline
        self._when = None               # the children's deadline
        self._timeout = None            # of the body, if it is a virtual thread
        self._lock = threading.Lock()
        self._state = "created"         # "active", "given up", "finished"
        self._in_body = False
        self._body = None               # (ident, serial)
        self._handled = None            # the exception in whose handler the block is
        self._waiting = deque()         # tasks without a thread
        self._tasks = set()             # tasks whose threads are to be joined
        self._prune_at = 64             # when there are so many, look for ended ones
        self._errors = []
        self._bare_error = None
        self._outer = None              # the body's interrupt by somebody else
        self._expired = False           # a child has met the deadline
        self._cancel_exc = ScopeCancelled("scope given up")

    def __repr__(self):
        return f"<TaskScope {self.name!r} [{self._state}]>"

    @classmethod
    def first(cls, *, max_concurrency=None, deadline=None, name=None):
        """A scope that wants one result: result() is that of the first child to succeed.

        A success gives the scope up, a failure does not.  When no child succeeds, the block's
        end raises an ExceptionGroup of their failures.
        """
        return _FirstScope(max_concurrency=max_concurrency, deadline=deadline, name=name)

    # --- The block

    def __enter__(self):
        if self._state != "created":
            raise RuntimeError(f"{self!r} has already been entered")
        serial = _vthread.serial()
        self._body = threading.get_ident(), serial
        self._handled = sys.exception()
        if serial is not None and self._deadline is not None:
            self._timeout = Timeout(self._deadline)
            self._timeout.__enter__()
        whens = [when for when in (self._deadline, _vthread.next_alarm())
                 if when is not None]
        self._when = min(whens, default=None)
        self._in_body = True
        self._state = "active"
        return self

    def __exit__(self, exc_type, exc, tb):
        _shield()
        try:
            raised = self._finish(exc)
        finally:
            # Whoever keeps the scope does not keep what it has raised.
            self._errors = []
            self._bare_error = self._outer = self._handled = self._cancel_exc = None
            _unshield()
        try:
            if self._timeout is not None:
                # Raises TimeoutError in its place if it is the timeout's.
                self._timeout.__exit__(type(raised), raised, None)
            if raised is exc:
                return False
            if raised is not None:
                raise raised
            return True
        finally:
            del raised, exc, tb

    def _finish(self, exc):
        # Joins all children; returns what the block's end is to raise.
        with self._lock:
            self._in_body = False
        own = exc                       # the body's failure
        if isinstance(exc, Interrupted):
            own = None
            # One from outside that the body was cleaning up after counts as well.
            interrupt = exc.__context__ if exc is self._cancel_exc else exc
            if isinstance(interrupt, Interrupted) and interrupt is not self._handled:
                self._outer = interrupt
            del interrupt
        if exc is not None:
            self._give_up()
        if isinstance(own, _BARE):
            self._set_bare_error(own)
        while True:
            try:
                _unshield()
                try:
                    self._join_all()
                finally:
                    _shield()
            except Interrupted as interrupt:
                # No variable has it: its traceback leads to this frame.
                if interrupt is not self._cancel_exc:
                    self._outer = self._outer or interrupt
            except BaseException as error:      # Ctrl-C, in the main thread
                self._set_bare_error(error)
            else:
                break
            self._give_up()
        _vthread.withdraw(self._cancel_exc)
        if self._expired and self._outer is None:
            self._outer = self._raise_deadline()
        if self._outer is not None and getattr(own, '_expired_scope', None) is self:
            own = None              # spawn() has told the body of the deadline
        errors = self._get_errors()
        if own is not None:
            errors.append(own)
        if self._bare_error is not None:
            return self._bare_error
        if not errors:
            return self._outer
        if self._outer is not None and self._body[1] is not None:
            # It gives way to what has failed, but must not be forgotten.
            _vthread.interrupt(*self._body, self._outer)
        group = BaseExceptionGroup("unhandled errors in a TaskScope", errors)
        group.__suppress_context__ = True
        return group

    def _join_all(self):
        while True:
            with self._lock:
                if not self._tasks:
                    # Who waits for a turn is started by one that ends.
                    self._state = "finished"
                    return
                task = next(iter(self._tasks))
            left = None
            if self._body[1] is None and self._deadline is not None and not self._expired:
                left = max(self._deadline - time.monotonic(), 0)
                left = min(left, threading.TIMEOUT_MAX)
            task.thread.join(left)
            if task.thread.is_alive():
                self._expire()
            else:
                with self._lock:
                    self._tasks.discard(task)

    def _raise_deadline(self):
        # The deadline has ended a child; what it is to the body.
        if self._body[1] is not None:
            _unshield()
            try:
                _vthread.check()
            except Interrupted as exc:
                return exc
            finally:
                _shield()
            if self._deadline is None or time.monotonic() < self._deadline:
                return None             # it was that of a timeout around the scope
        error = TimeoutError()
        error.__cause__ = ScopeCancelled("deadline")
        return error

    # --- Children

    def spawn(self, func, /, *args, **kwargs):
        """Start a virtual thread that calls func(*args, **kwargs); return its Task.

        From any thread, as long as the block has not ended; RuntimeError otherwise, and when
        the scope was given up.  Does not block.
        """
        task = Task(self, (func, args, kwargs))
        _shield()
        try:
            with self._lock:
                if self._state == "created":
                    raise RuntimeError(f"{self!r} has not been entered")
                if self._state == "given up":
                    error = RuntimeError(f"{self!r} is shutting down")
                    if self._expired:
                        error._expired_scope = self
                    raise error
                if self._state == "finished":
                    raise RuntimeError(f"{self!r} is finished")
                if self._free == 0:
                    self._waiting.append(task)
                else:
                    self._start(task)
        finally:
            _unshield()
        return task

    def _start(self, task):
        # With the lock.
        if len(self._tasks) >= self._prune_at:
            self._tasks = {t for t in self._tasks if t.thread.is_alive()}
            self._prune_at = max(64, 2 * len(self._tasks))
        task._start()
        self._tasks.add(task)
        if self._free is not None:
            self._free -= 1

    def _child_ended(self):
        error = None
        with self._lock:
            if self._free is not None:
                self._free += 1
                if self._waiting:
                    task = self._waiting.popleft()
                    try:
                        self._start(task)
                    except Exception as exc:    # no memory, no OS thread
                        error = exc
        if error is not None:
            # Its spawn() has returned: whose turn it was has failed.
            task.set_exception(error)
            self._child_failed(error)

    def _child_failed(self, exc):
        with self._lock:
            if isinstance(exc, _BARE):
                self._bare_error = self._bare_error or exc
            else:
                self._errors.append(exc)
        self._give_up()

    def _child_succeeded(self, task):
        pass

    def _get_errors(self):
        return self._errors

    def _set_bare_error(self, exc):
        with self._lock:
            self._bare_error = self._bare_error or exc

    def _expire(self):
        self._expired = True
        self._give_up()

    def _cancel(self, task):
        _shield()
        try:
            with self._lock:
                if task.thread is not None:
                    return task._interrupt()
                if task not in self._waiting:
                    return False        # it has ended, or is about to
                self._waiting.remove(task)
            task._set_cancelled()
            return True
        finally:
            _unshield()

    def _give_up(self):
        with self._lock:
            if self._state != "active":
                return
            self._state = "given up"
            dropped = list(self._waiting)
            self._waiting.clear()
            for task in self._tasks:
                task._interrupt()
            ident, serial = self._body
            if self._in_body and serial is not None:
                _vthread.interrupt(ident, serial, self._cancel_exc)
        for task in dropped:
            task._set_cancelled()


class _FirstScope(TaskScope):

    _winner = None

    def result(self):
        """The first success.  RuntimeError if there is none (yet)."""
        if self._winner is None:
            raise RuntimeError(f"no child of {self!r} has succeeded")
        return self._winner.result()

    def _child_succeeded(self, task):
        with self._lock:
            if self._winner is None:
                self._winner = task
        self._give_up()

    def _child_failed(self, exc):
        if isinstance(exc, _BARE):
            super()._child_failed(exc)
        else:
            with self._lock:
                self._errors.append(exc)

    def _get_errors(self):
        return [] if self._winner is not None else self._errors
