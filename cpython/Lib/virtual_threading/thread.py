"""The Thread class: a threading.Thread that runs on a virtual thread.

Problem solved: threading.Thread costs an Event with its Condition, a WeakSet entry,
two dict updates under a global lock, a closure for the exception hook and a wait for
the new thread's first steps.  For a thread of the operating system that is noise; for
one that should cost as little as a few calls it is nearly everything.  So a thread's
state is its handle (the object that join() waits for), and the rest is derived from it
when somebody asks: _started, _ident, the default name.  What every thread needs, its
__init__() and start(), is in C (Modules/_vthread_thread.c).

Code finds here what it finds in a threading.Thread: the public surface by inheritance,
and the private attributes that subclasses and tools in the wild use as properties.
Setters that ignore their value are for classes whose __init__ calls
threading.Thread.__init__ by name.

Where and when a thread runs is the business of _vthread, not of this file.
"""

import _vthread
import sys
import threading

from .interrupt import Interrupted

__all__ = ['Thread', 'spawn', 'is_virtual']

_current = _vthread.current
_vthread.bind(vars(threading))


class Thread(_vthread.Thread, threading.Thread):
    """A virtual thread.

    The arguments are those of threading.Thread, and *context*: the
    contextvars.Context in which the thread runs.  None means a new, empty one, as
    threading.Thread has it in this version of Python.  A thread whose *daemon* is None
    inherits the property from the thread that creates it; threads that are not daemons
    are joined when the interpreter exits.
    """

    # The inline attributes of an ordinary instance have room for thirty names, 240 bytes.
    # A dictionary comes into being where a subclass needs one.
    __slots__ = ()

    def run(self):
        """The thread's activity: calls the target.  May be overridden."""
        try:
            target = self._target
            if target is not None:
                keywords = self._keywords
                if keywords:
                    target(*self._args, **keywords)
                else:
                    target(*self._args)
        finally:
            # The target's arguments may refer to this thread.
            target = keywords = None
            del self._target, self._args, self._keywords

    # By it start() sees that nobody has another one, and then calls the target itself.
    _plain_run = run

    @staticmethod
    def _bootstrap():
        # Called by _vthread in the new thread, in its context.  Not a method: that is
        # an object which lives as long as the thread.
        self = _current()
        try:
            if threading._trace_hook:
                sys.settrace(threading._trace_hook)
            if threading._profile_hook:
                sys.setprofile(threading._profile_hook)
            self.run()
        except:
            self._failed()

    def _failed(self):
        # Called for the exception of the thread's call, which is being handled.
        if self._daemonic and sys is None:
            return              # taken apart: it fails in ways that nobody can act on
        if isinstance(sys.exception(), Interrupted):
            return              # it was asked to end, as by SystemExit
        self._invoke_excepthook(self)

    # One for all threads.  threading makes one for each, so that it can report with
    # the hooks and modules of the time of the thread's creation when those are gone.
    _invoke_excepthook = staticmethod(threading._make_invoke_excepthook())

    def join(self, timeout=None):
        """Wait until the thread has ended, or for *timeout* seconds.

        Errors are those of threading.Thread.join().  Blocks the caller only: a
        virtual thread that joins another one parks.
        """
        try:
            handle = self._handle
        except AttributeError:
            raise RuntimeError("Thread.__init__() not called") from None
        if not handle.ident:
            raise RuntimeError("cannot join thread before it is started")
        if self is _current():
            raise RuntimeError("cannot join current thread")
        if timeout is None:
            handle.join()
        else:
            handle.join(max(timeout, 0))

    def is_alive(self):
        """Whether the thread has been started and has not ended."""
        assert self._initialized, "Thread.__init__() not called"
        handle = self._handle
        return handle.ident != 0 and not handle.is_done()

    def interrupt(self, exc=Interrupted):
        """Raise *exc* in this thread's blocking call: the one at hand, or the next.

        *exc* is an exception or a class of exceptions.  Blocking calls are those that wait,
        for a lock, a queue, a thread, a descriptor, a child process or the time: a lock that
        is free is acquired.  What waits where virtual threads can't be woken (regular files,
        name resolution, foreign code) ends first.  The same *exc* counts once until it is
        raised.

        Returns whether the thread has not ended yet.  RuntimeError is raised before start(),
        TypeError for anything but an exception.  Does not block.
        """
        try:
            ident = self._handle.ident
        except AttributeError:
            raise RuntimeError("Thread.__init__() not called") from None
        if not ident:
            raise RuntimeError("cannot interrupt thread before it is started")
        return _vthread.interrupt(ident, self, exc)

    @property
    def ident(self):
        """The thread's identifier, as get_ident() gives it inside; None before start().

        Not zero, and unique among the threads that run, platform threads included.
        """
        assert self._initialized, "Thread.__init__() not called"
        return self._handle.ident or None

    @property
    def native_id(self):
        """The kernel's id of the OS thread that runs this thread, while one does.

        None otherwise: a parked thread has no OS thread.
        """
        found = self._inspect()
        return None if found is None else found[2]

    @property
    def state(self):
        """One of "new", "runnable", "running", "parked", "pinned", "terminated".

        A pinned thread waits as a parked one does, but holds its OS thread.
        """
        found = self._inspect()
        if found is not None:
            return found[0]
        return "terminated" if self._handle.ident else "new"

    def _inspect(self):
        # What _vthread knows of a started thread that has not ended, else None.
        assert self._initialized, "Thread.__init__() not called"
        handle = self._handle
        if not handle.ident or handle.is_done():
            return None
        try:
            return _vthread.inspect(handle.ident)
        except (LookupError, ValueError):
            return None         # ended just now

    # threading.Thread's private attributes, for its methods and for other code.

    @property
    def _initialized(self):
        return hasattr(self, '_handle')

    @property
    def _started(self):
        return _Started(self)

    @property
    def _ident(self):
        return self._handle.ident or None

    @property
    def _native_id(self):
        return self.native_id

    @property
    def _stderr(self):
        # Where to report when sys.stderr is None.
        return sys.__stderr__

    def _ignore(self, value):
        pass

    _initialized = _initialized.setter(_ignore)
    _started = _started.setter(_ignore)
    _ident = _ident.setter(_ignore)
    _native_id = _native_id.setter(_ignore)
    _stderr = _stderr.setter(_ignore)
    del _ignore

    @property
    def _name(self):
        title = self._title
        return self._default_name() if title is None else title

    @_name.setter
    def _name(self, name):
        self._title = name

    def _default_name(self):
        if self._label is None:
            return f"Thread-{self._number}"
        return f"Thread-{self._number} ({self._label})"

    @property
    def _kwargs(self):
        # A dictionary of the thread's own: run() of a subclass may change it.
        if self._keywords is None:
            self._keywords = {}
        return self._keywords

    @_kwargs.setter
    def _kwargs(self, kwargs):
        self._keywords = kwargs

    @_kwargs.deleter
    def _kwargs(self):
        del self._keywords

    def _after_fork(self, new_ident=None):
        # The handles of threads that the child does not have are done already.
        pass


class _Started:
    """What is left of the event that threading.Thread has: a question."""

    __slots__ = ('_thread',)

    def __init__(self, thread):
        self._thread = thread

    def is_set(self):
        return self._thread._handle.ident != 0


def spawn(func, /, *args, **kwargs):
    """Start a virtual thread that calls func(*args, **kwargs); return its Thread.

    An exception of the call goes to threading.excepthook.  Raises what
    Thread.start() raises.
    """
    thread = Thread(None, func, None, args, kwargs)
    thread.start()
    return thread


def is_virtual(thread=None):
    """Whether *thread* (a threading.Thread; None: the caller) runs on a virtual thread.

    Of a thread that does not run now: whether it did, or would.
    """
    if thread is None:
        return _vthread.is_virtual()
    if isinstance(thread, Thread):
        return True
    if not isinstance(thread, threading.Thread):
        raise TypeError('thread must be a threading.Thread or None, '
                        f'not {type(thread).__name__}')
    if isinstance(thread, (threading._MainThread, threading._DummyThread)):
        # Not started by threading: they are what they were found to be.
        return _vthread.is_virtual(thread.ident)
    return threading._start_joinable_thread is _vthread.start_joinable_thread
