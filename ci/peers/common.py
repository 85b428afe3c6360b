"""What the benchmark programs share: the three kinds of thread, and output.

Each program is started as  PYTHON PROGRAM.py PEER N  in a process of its own and
prints one JSON object.  ci/bench runs them, interleaved, and makes the table.

    virtual     virtual_threading, on as many carriers as there are processors
    virtual-1   the same on one carrier, for what one core can do
    threads     threading.Thread
    asyncio     tasks on asyncio's own loop
"""

import json
import sys
import threading


def arguments():
    """(peer, N) of the command line; the number of carriers is set."""
    peer, n = sys.argv[1], int(sys.argv[2])
    if peer == "virtual-1":
        import virtual_threading
        virtual_threading.configure(parallelism=1)
    return peer, n


def thread_class(peer):
    if peer == "threads":
        return threading.Thread
    if peer in ("virtual", "virtual-1"):
        import virtual_threading
        return virtual_threading.Thread
    sys.exit(f"{sys.argv[0]}: no such peer: {peer}")


def result(**figures):
    print(json.dumps(figures), flush=True)
