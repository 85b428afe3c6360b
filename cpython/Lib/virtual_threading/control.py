"""What a program may ask of the runtime: yield, stay put, sizes, counters."""

import _vthread

__all__ = ['yield_now', 'pin', 'configure', 'stats']


def yield_now():
    """Let other threads run.

    On a virtual thread: it goes to the end of its carrier's queue.  On a platform
    thread: as os.sched_yield().
    """
    _vthread.yield_now()


class _Pin:
    # Without state: the runtime counts the pins of each thread.
    __slots__ = ()

    def __enter__(self):
        _vthread.pin()

    def __exit__(self, *exc_info):
        _vthread.unpin()


_the_pin = _Pin()


def pin():
    """Context manager: inside the block, this thread stays on its OS thread.

    For libraries that keep state in the OS thread (a GL context, thread-local storage
    of C).  A blocking call in the block holds the OS thread, and another carrier runs
    the other virtual threads meanwhile.  May be nested.  Does nothing on a platform
    thread.
    """
    return _the_pin


def configure(*, parallelism=None, max_carriers=None):
    """Change how many virtual threads run at once, and on how many OS threads at most.

    *parallelism*: how many run Python code at the same time, 1 to 1024;
    os.process_cpu_count(), or less if the control group has a smaller quota, at first.
    *max_carriers*: how many OS threads there may be, those that are held by blocking calls
    included; 256 at first, and it counts as *parallelism* where that is more.  None leaves
    a value as it is.  Works at any time, grows and shrinks; a shrinking takes effect as
    carriers come to a scheduling point.

    When all of *max_carriers* are held, threads wait for one, and nothing moves for
    50 ms, there is one more: those that hold them may wait for those threads.  Such OS
    threads end when they have been idle for some seconds; stats()['extra_carriers']
    counts them, and when it grows, *max_carriers* is too small for the program.

    Raises TypeError for what is not an int, ValueError for a number out of range and for
    a *max_carriers* that is less than the parallelism; the message says what is accepted.
    """
    _vthread.configure(parallelism, max_carriers)


def stats():
    """A dict of the runtime's counters.

    At this moment: 'threads' (a dict: how many in each state); 'carriers' (OS threads),
    'carriers_idle' and 'carriers_blocked' (of these, those without work, and in a
    blocking call); 'parallelism' and 'max_carriers', see configure(); 'stacks_resident'
    (native stacks in use, but those that are frozen), 'stacks_idle' (kept for the next
    threads), 'stacks_frozen' (whose bytes are in the heap while their threads are parked),
    'image_bytes' (what these take there).

    Totals since the first virtual thread: 'started' and 'finished' (threads, with those
    of the runtime); 'parks', 'soft_parks' (those that kept no native stack, and
    yields of this kind), 'unparks', 'yields'; 'steals' (from the queue of another
    carrier), 'migrations' (a thread goes on on another one), 'handoffs' (the slot of a
    carrier that blocks is given to another one), 'preemptions'; 'extra_carriers' (OS
    threads made beyond 'max_carriers'); 'pins' (a dict: how many waits held their OS
    thread, for each reason), 'pinned_by' (a dict: how many did because of the frames of
    each library, by file name); 'freezes' and 'thaws' of stacks.

    They are read without stopping anything, so they may not add up to the last one.
    """
    return _vthread.stats()
