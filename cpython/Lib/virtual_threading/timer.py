"""Timer: threading.Timer on a virtual thread."""

import threading

from .thread import Thread

__all__ = ['Timer']


class Timer(threading.Timer, Thread):
    """Call a function after a number of seconds, unless cancelled before.

    As threading.Timer, but a waiting one costs a parked virtual thread and not an OS
    thread.
    """

    def __init__(self, interval, function, args=None, kwargs=None):
        # threading.Timer names the class that it initializes, the other one.
        Thread.__init__(self)
        self.interval = interval
        self.function = function
        self.args = args if args is not None else []
        self.kwargs = kwargs if kwargs is not None else {}
        self.finished = threading.Event()
