"""VirtualThreadPoolExecutor: an executor that runs each call in a virtual thread.

Problem solved: ThreadPoolExecutor bounds the number of threads because they are dear
and keeps them because starting one is dear.  So thread-locals leak from one call into
the next, and calls that wait for other calls deadlock when these find no worker.  With
a virtual thread for each call there is nothing to pool, and a bound, where there is
one, is the program's (connections, memory), not the executor's.

Life of a call.  submit() makes its thread, which is started at once, and then stands in
_running; or, while max_workers calls run, waits in _waiting.  A thread that has done
its call starts the oldest waiting one and leaves.  There is no worker, no sentinel and
no queue that could outlive its readers.  Threads keep the executor alive, not the other
way round: one that is dropped without shutdown() ends when its last call has.

_lock is held, for a few instructions, by whoever touches _running, _waiting or _ended,
or changes _shutdown or _broken.  Futures are never completed under it, as their
callbacks may submit.
"""

from concurrent.futures import _base
from concurrent.futures.thread import BrokenThreadPool
from virtual_threading.thread import Thread
import collections
import itertools
import os
import threading
import time
import weakref

_executors = weakref.WeakSet()          # guarded by _executors_lock
_executors_lock = threading.Lock()
_exiting = False                        # written once, read under an executor's _lock


def _python_exit():
    # Calls that have been submitted by now are run, as by ThreadPoolExecutor.
    global _exiting
    _exiting = True
    with _executors_lock:
        executors = list(_executors)
    for executor in executors:
        executor._join()


# Before threading joins its threads, and not by atexit: a thread that ends must still
# be able to start the next one.
threading._register_atexit(_python_exit)


def _after_fork_in_child():
    _executors_lock._at_fork_reinit()
    for executor in list(_executors):
        executor._after_fork()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _Call(Thread):
    """The thread of one call; before that, the place where the call waits."""

    __slots__ = ('_future', '_executor')

    def __init__(self, executor, future, fn, args, kwargs):
        self._target = fn
        self._args = args
        self._keywords = kwargs
        self._title = None
        self._label = executor._thread_name_prefix
        self._number = executor._next_number()
        self._daemonic = False
        self._handle = threading._ThreadHandle()
        self._future = future
        self._executor = executor

    def _default_name(self):
        return f"{self._label}_{self._number}"

    def run(self):
        call = self
        while call is not None:
            executor = call._executor
            call._do()
            call = executor._call_ended(self)

    def _do(self):
        executor = self._executor
        future = self._future
        fn = self._target
        args = self._args
        kwargs = self._keywords
        # The thread object may live for long after its call.
        del self._executor, self._future, self._target, self._args, self._keywords
        usable = (executor._initializer is None or future.cancelled()
                  or executor._initialize())
        if not future.set_running_or_notify_cancel():
            return
        if not usable:
            future.set_exception(BrokenThreadPool(executor._broken))
            return
        try:
            result = fn(*args, **kwargs)
        except BaseException as exc:
            future.set_exception(exc)
            # The traceback of exc refers to this frame.
            del future, fn, args, kwargs
        else:
            future.set_result(result)


class VirtualThreadPoolExecutor(_base.Executor):
    """Runs each call in a virtual thread of its own."""

    # Used to assign unique thread names when thread_name_prefix is not supplied.
    _counter = itertools.count().__next__

    def __init__(self, max_workers=None, thread_name_prefix='',
                 initializer=None, initargs=()):
        """Initializes a new VirtualThreadPoolExecutor instance.

        Args:
            max_workers: How many calls may run at once.  If None, there is no
                limit: every call is started as it is submitted.
            thread_name_prefix: An optional name prefix to give our threads.
            initializer: A callable that is called in the thread of each call,
                before the call.  A thread runs one call only, so what the
                initializer leaves in thread-locals is there for this call and
                is gone after it.  When the initializer raises, the executor is
                broken: this call and those not started yet fail with
                BrokenThreadPool, as does submit() from then on.
            initargs: A tuple of arguments to pass to the initializer.
        """
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")

        self._max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs
        self._thread_name_prefix = (
            thread_name_prefix or f"VirtualThreadPoolExecutor-{self._counter()}")
        self._next_number = itertools.count().__next__
        self._broken = False
        self._shutdown = False
        self._lock = threading.Lock()
        self._running = set()
        self._waiting = collections.deque()
        # Threads that are past their call, so that shutdown() can wait for their very
        # end; swept when there are twice as many as survived the last sweep.
        self._ended = []
        self._sweep_at = 32
        with _executors_lock:
            _executors.add(self)

    @property
    def _threads(self):
        # A snapshot of the threads that run a call.  ThreadPoolExecutor has a set.
        with self._lock:
            return set(self._running)

    def submit(self, fn, /, *args, **kwargs):
        future = _base.Future()
        call = _Call(self, future, fn, args, kwargs)
        with self._lock:
            if self._broken:
                raise BrokenThreadPool(self._broken)
            if self._shutdown:
                raise RuntimeError('cannot schedule new futures after shutdown')
            if _exiting:
                raise RuntimeError('cannot schedule new futures after '
                                   'interpreter shutdown')
            running = self._running
            if self._max_workers is not None and len(running) >= self._max_workers:
                self._waiting.append(call)
                return future
            running.add(call)
            try:
                call.start()
            except BaseException:
                running.discard(call)
                raise
        return future
    submit.__doc__ = _base.Executor.submit.__doc__

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """Returns an iterator equivalent to map(fn, iter).

        Args:
            fn: A callable that will take as many arguments as there are
                passed iterables.
            timeout: The maximum number of seconds to wait. If None, then
                there is no limit on the wait time.
            chunksize: Ignored, as by ThreadPoolExecutor: each call has a
                thread of its own.
            buffersize: How many submitted calls may have results that were
                not yet yielded.  When there are that many, the iterables are
                not read on until a result is taken.  If None, all calls are
                submitted at once.

        Returns:
            An iterator equivalent to: map(func, *iterables) but the calls
            may be evaluated out-of-order.

        Raises:
            TimeoutError: If the entire result iterator could not be
                generated before the given timeout.
            Exception: If fn(*args) raises for any values.
        """
        if buffersize is None:
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")

        deadline = None if timeout is None else time.monotonic() + timeout
        arguments = zip(*iterables)
        futures = collections.deque(self.submit(fn, *args) for args
                                    in itertools.islice(arguments, buffersize))

        def results():
            try:
                while futures:
                    # No reference to the result or to its future stays here while
                    # the caller has the result.
                    remaining = (None if deadline is None
                                 else deadline - time.monotonic())
                    yield _base._result_or_cancel(futures.popleft(), remaining)
                    for args in itertools.islice(arguments, 1):
                        futures.append(self.submit(fn, *args))
            finally:
                for future in futures:
                    future.cancel()
        return results()

    def shutdown(self, wait=True, *, cancel_futures=False):
        with self._lock:
            self._shutdown = True
            dropped = []
            if cancel_futures:
                # Not those that have a thread: it runs, as a call that a worker of a
                # ThreadPoolExecutor has taken.
                dropped.extend(self._waiting)
                self._waiting.clear()
        for call in dropped:
            # Nobody else will tell those who wait for it by futures.wait().
            call._future.cancel()
            call._future.set_running_or_notify_cancel()
        if wait:
            self._join()
    shutdown.__doc__ = _base.Executor.shutdown.__doc__

    def _join(self):
        while True:
            with self._lock:
                self._sweep()
                threads = [*self._running, *self._ended]
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _sweep(self):
        self._ended = [thread for thread in self._ended if thread.is_alive()]
        self._sweep_at = 2 * len(self._ended) + 32

    def _call_ended(self, thread):
        # Called by a thread that has done a call.  Returns another call if that one's
        # own thread could not be started (memory, the interpreter's exit): thread does
        # it then, so that no call is lost.
        with self._lock:
            if self._waiting:
                call = self._waiting.popleft()
                try:
                    call.start()
                except (RuntimeError, MemoryError):
                    return call
                self._running.add(call)
            self._running.discard(thread)
            self._ended.append(thread)
            if len(self._ended) >= self._sweep_at:
                self._sweep()
        return None

    def _initialize(self):
        try:
            self._initializer(*self._initargs)
            return True
        except BaseException:
            _base.LOGGER.critical('Exception in initializer:', exc_info=True)
        with self._lock:
            self._broken = ('A thread initializer failed, the executor is not '
                            'usable anymore')
            dropped = list(self._waiting)
            self._waiting.clear()
        for call in dropped:
            if call._future.set_running_or_notify_cancel():
                call._future.set_exception(BrokenThreadPool(self._broken))
        return False

    def _after_fork(self):
        # In the child no call runs but, if it forked, the current one, whose thread is
        # the main thread now and must not be joined.  The waiting ones are the parent's.
        self._lock._at_fork_reinit()
        self._running.clear()
        self._waiting.clear()
        self._ended.clear()
