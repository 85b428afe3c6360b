"""Continuations: calls that can be suspended anywhere, and resumed.

    from continuations import Continuation, yield_

    def numbers(n):
        for i in range(n):
            show(i)

    def show(i):                # an ordinary function, however deep
        yield_(i)

    c = Continuation(numbers)
    c.start(3)                  # 0: runs numbers(3) until the first yield_()
    c.send(None)                # 1
    c.send(None)                # 2
    c.send(None)                # None: what numbers() returns
    c.completed                 # True

A generator suspends one frame; a continuation suspends all calls between its function
and yield_(), those of C functions included: a sort key, __eq__ of a dict's key, the
function of map() or re.sub() may yield.  A continuation is

* one-shot: it goes on from where it is, and not twice from one place;
* stackful: it has a native stack of its own (1 MB of addresses, of which it uses what
  it touches, mostly a page or two) and 1.6 KB of state;
* delimited: yield_() suspends up to the start() or send() that has resumed it;
* nestable: a continuation may start and resume others.

It is no thread, and nothing runs unless it is resumed.  As a generator, it runs in the
thread that resumes it, and any thread may be that, one at a time: current_thread(),
get_ident(), threading.local, trace functions, the running asyncio loop and the frames
below are those of this thread.  Locks with an owner are owned by the thread, too, so don't
yield with one if another thread may resume.  Context variables are its own: it runs in a
copy of the context in which it was started.

While it runs a continuation, a virtual thread does not leave its OS thread: where it waits,
it holds that, and another one carries other virtual threads meanwhile.

Only code of the interpreter's build can be resumed by another OS thread.  A continuation
that yields with foreign native code on its stack, say in a callback from ctypes, can be
resumed only on the same one.

When a suspended continuation is dropped, GeneratorExit is raised in it, as in a generator,
so that its ``finally`` and ``with`` blocks run.
"""

from _continuations import Continuation, get_current_continuation, yield_

__all__ = ['Continuation', 'get_current_continuation', 'yield_']
