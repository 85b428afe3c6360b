"""dump_traceback: faulthandler looks at a thread that runs."""

import faulthandler
import os
import time


def recurse(depth):
    def generate():
        yield depth
    return list(generate()) if depth == 0 else recurse(depth - 1)


with open(os.devnull, "w") as sink:
    faulthandler.dump_traceback_later(0.01, repeat=True, file=sink)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        recurse(30)
    faulthandler.cancel_dump_traceback_later()
