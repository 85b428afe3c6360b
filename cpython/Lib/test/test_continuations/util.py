"""What the tests share."""

import threading

from continuations import yield_
from test.support import threading_helper


class Error(Exception):
    pass


def yielding(*values):
    for value in values:
        yield_(value)
    return 'end'


def in_thread(func, /, *args):
    """What func(*args) returns or raises on another thread."""
    results, errors = [], []

    def run():
        try:
            results.append(func(*args))
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    with threading_helper.start_threads([thread]):
        pass
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()
    return results[0]
