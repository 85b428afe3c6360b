"""The bridge to asyncio: coroutines for threads, threads for coroutines.

run_coroutine() has one event loop for all threads, on a daemon virtual thread that is
started when it is first needed.  What coroutines share, say a client session, belongs to a
loop, so that a loop for each call would share nothing; and making one costs more than most
calls.  The price: coroutines that compute hold up the others, as in any asyncio program.
"""

import _vthread
import asyncio
import os
import threading

from concurrent.futures import Future
from contextvars import copy_context

from .thread import Thread

__all__ = ['run_coroutine', 'as_awaitable']


class _SharedLoop:
    def __init__(self):
        self.reset()

    def reset(self):
        self._lock = threading.Lock()
        self._loop = self._thread = None

    def get(self):
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._thread = Thread(target=self._run, args=(loop,), name="asyncio loop",
                                      daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop

    @staticmethod
    def _run(loop):
        while True:
            try:
                loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit):
                pass                    # of a coroutine, whose caller gets it; the others go on

    def end(self):
        # For tests that count threads; nothing may run in the loop.
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


_shared_loop = _SharedLoop()
os.register_at_fork(after_in_child=_shared_loop.reset)


def run_coroutine(coro):
    """Run a coroutine on the event loop of all virtual threads; return its result.

    Raises what the coroutine raises.  The coroutine sees the caller's context variables.
    Blocks until it has ended.  When the caller is interrupted meanwhile, by whatever
    exception, Ctrl-C included, the coroutine is cancelled; when that has ended it, the
    interrupt is raised.  A coroutine that suppresses the cancellation suppresses the
    interrupt, too.

    RuntimeError is raised in a thread that runs an event loop: await the coroutine there.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    if asyncio._get_running_loop() is not None:
        coro.close()
        raise RuntimeError("run_coroutine() cannot be called from a running event loop")
    loop = _shared_loop.get()
    context = copy_context()
    ended = threading.Lock()
    ended.acquire()
    task = interrupt = told = None
    done = False                # not task.done(): a task is not for other threads until then

    def start():
        nonlocal task
        task = loop.create_task(coro, context=context)
        task.add_done_callback(finish)

    def finish(_):
        nonlocal done
        done = True
        ended.release()

    def cancel(exc):
        # After start(), which was called before.
        nonlocal told
        current = task
        if current is not None and current.cancel():
            told = exc

    loop.call_soon_threadsafe(start)
    while not done:
        try:
            ended.acquire()
        except BaseException as exc:
            interrupt = exc
            loop.call_soon_threadsafe(cancel, exc)
    try:
        # One that came when the coroutine had ended by itself must not be forgotten.
        if interrupt is not None and (task.cancelled() or told is not interrupt):
            raise interrupt
        return task.result()
    finally:
        task = interrupt = told = None


class _Watched(Future):
    # Of a thread: cancelling it interrupts the thread.

    def __init__(self, thread):
        super().__init__()
        self._thread = thread

    def cancel(self):
        if isinstance(self._thread, Thread) and self._thread.ident is not None:
            self._thread.interrupt()
        return super().cancel()

    def watch(self):
        self._thread.join()
        if self.set_running_or_notify_cancel():
            self.set_result(None)


def as_awaitable(thread_or_future):
    """An asyncio.Future for a thread or a concurrent.futures.Future; call it in a coroutine.

    Its result is that of the future, or None when the thread has ended.  Cancelling it
    interrupts the (virtual) thread, cancels the future, or the scope's task.

    RuntimeError is raised without an event loop, and for a thread that was not started.
    """
    loop = asyncio.get_event_loop()
    if isinstance(thread_or_future, threading.Thread):
        thread = thread_or_future
        if thread.ident is None:
            raise RuntimeError("cannot await thread before it is started")
        future = _Watched(thread)
        Thread(target=future.watch, name=f"watch {thread.name}", daemon=True).start()
    elif isinstance(thread_or_future, Future):
        future = thread_or_future
    else:
        raise TypeError("a thread or a concurrent.futures.Future was expected, "
                        f"got {thread_or_future!r}")
    return asyncio.wrap_future(future, loop=loop)
