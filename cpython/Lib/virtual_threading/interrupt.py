"""Interrupted: what Thread.interrupt() raises in another thread.

An interrupt is an exception that is raised in a blocking call: in the one in which the
thread waits, or else in the next one that has to wait.  Code between two blocking calls is
never interrupted, so a thread can keep its data whole without a lock against it.

Several interrupts are raised one at a time, in the order in which they came.  None is raised
in a finalizer (__del__).  In finally, except and __exit__ they are, as in any other code:
what must not be interrupted there belongs into a thread of its own, which is then joined.
"""

__all__ = ['Interrupted', 'ScopeCancelled']


class Interrupted(BaseException):
    """Raised in a thread that was interrupted.

    A BaseException, as asyncio.CancelledError is, so that "except Exception" lets it pass.
    A thread that it ends has not failed: threading.excepthook is not called.
    """

    # What instances are shown as; users see the name in the package that has it.
    __module__ = 'virtual_threading'


class ScopeCancelled(Interrupted):
    """Raised in the children of a TaskScope, and in its body, when the scope is given up."""

    __module__ = 'virtual_threading'
