"""Timeouts: a time after which no blocking call of a block waits any more.

A timeout is an alarm of the thread that has entered it.  Each of the thread's waits ends at
the earliest alarm; there is no timer, and no other thread takes part, so that a timeout
which does not expire costs little more than contextlib.nullcontext().

In the block, the alarm raises an Interrupted in the blocking call; the block's end turns
that into TimeoutError, as asyncio.timeout() does with CancelledError.  So code in the block
can tell its own timeouts from those around it, and the outer one wins when both have expired.
"""

import _vthread
import threading
import time

from .interrupt import Interrupted

__all__ = ['timeout', 'deadline']

_set_alarm = _vthread.set_alarm
_move_alarm = _vthread.move_alarm
_drop_alarm = _vthread.drop_alarm
_disarm_other = _vthread.disarm_other
_withdraw = _vthread.withdraw
_serial = _vthread.serial
_get_ident = threading.get_ident


class Timeout:
    """What timeout() and deadline() return."""

    __slots__ = ('_when', '_alarm', '_ident', '_serial', '_state')

    def __init__(self, when):
        self._when = when
        self._alarm = None      # the exception, while the block is entered
        self._ident = self._serial = None
        self._state = "created"

    def when(self):
        """The time.monotonic() at which it expires, or None for never; what was set last."""
        return self._when

    def expired(self):
        """Whether it has interrupted the block, which is known at the block's end.

        False before, and for a block that has ended late but had no blocking call after the
        time.
        """
        return self._state == "expired"

    def reschedule(self, when):
        """Expire at another time.monotonic(), or never (None).

        A time that has passed interrupts the next blocking call.  RuntimeError is raised
        outside of the block, in another thread than the block's, and when it has interrupted
        the block already.
        """
        if self._state == "created":
            raise RuntimeError("Timeout has not been entered")
        if self._state != "active":
            raise RuntimeError(f"Cannot change state of {self._state} Timeout")
        if not self._is_here():
            raise RuntimeError("Timeout belongs to another thread")
        if not _move_alarm(self._alarm, when):
            raise RuntimeError("Cannot change state of expiring Timeout")
        self._when = when

    def _is_here(self):
        # An ident alone may be that of a thread which has come after.
        return _get_ident() == self._ident and _serial() == self._serial

    def __enter__(self):
        if self._state != "created":
            raise RuntimeError("Timeout has already been entered")
        alarm = Interrupted("timeout")
        _set_alarm(alarm, self._when)
        self._alarm = alarm
        self._ident = _get_ident()
        self._serial = _serial()
        self._state = "active"
        return self

    def __exit__(self, exc_type, exc, tb):
        if self._state == "created":
            raise RuntimeError("Timeout has not been entered")
        if self._state != "active":
            raise RuntimeError("Timeout has already been left")
        alarm = self._alarm
        self._alarm = None
        if not self._is_here():
            # Nobody there would know what a later interrupt means.
            self._state = "finished"
            _disarm_other(self._ident, self._serial, alarm)
            raise RuntimeError("Timeout belongs to another thread")
        if _drop_alarm(alarm):
            self._state = "finished"
            return
        _withdraw(alarm)        # a scope in the block may have put it off
        self._state = "expired"
        if exc is alarm:
            raise TimeoutError from exc
        # Whoever sees the other exception that has left the block can tell what began it.
        while exc is not None and exc.__context__ is not None:
            if exc.__context__ is alarm:
                error = TimeoutError()
                error.__cause__ = error.__context__ = alarm
                exc.__context__ = error
                break
            exc = exc.__context__

    def __repr__(self):
        when = ""
        if self._state == "active":
            when = f" when={None if self._when is None else round(self._when, 3)}"
        return f"<Timeout [{self._state}]{when}>"


def timeout(seconds):
    """Context manager: blocking calls in the block raise after so many *seconds*.

    *seconds* is a number, or None for no limit; the time runs from this call on.  When it is
    over, the blocking call in which the thread waits, or its next one, raises Interrupted, and
    the block's end raises TimeoutError.  A block that has no more blocking calls ends as if
    there were no timeout.  May be nested, but entered once only.

    ``with timeout(...) as t`` gives what asyncio.timeout() does: t.when() is the
    time.monotonic() at which it expires, or None; t.expired() says, after the block, whether
    it has; t.reschedule(when) sets another time, or None.

    Entered and left in the same virtual thread.  RuntimeError is raised when a platform thread
    enters, since its blocking calls can't be interrupted, and when another thread leaves (as
    by closing a generator): the timeout is over then.
    """
    return Timeout(None if seconds is None else time.monotonic() + seconds)


def deadline(when):
    """As timeout(), but expires at a given time.monotonic(), or never (None)."""
    return Timeout(when)
