"""What the tests of blocking input and output share."""

import threading


class Hands:
    """Gives each thread that asks the next one of some objects.

    Iterators of lists are no help here: two threads can get the same item.
    """

    def __init__(self, objects):
        self._objects = iter(objects)
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            return next(self._objects)
