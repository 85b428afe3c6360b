"""The operations of which the fuzzer makes programs.

An operation is a function of (run, call, n).  run is the Run of execute.py; call(x=0)
executes the next of the operation's children and returns an int; call.apart() makes a
function that does so in another thread, or later; n is a number from 1 to 3.  What an
operation returns, or raises, must not depend on when other threads run: it is compared
with what a platform thread gets that is alone.

An operation without children is a leaf, and mostly a way to wait.  Tags say what an
operation does that must not be done below another one, which forbids them:

    shared      takes the lock that all copies of the program share
    meet        waits for all copies
    elsewhere   calls its children in another thread, which does not own that lock
    finalizer   waits until an object has gone, or runs the collector
    overflow    recurses to the limit
"""

from ops import callbacks, control, finalizers, foreign, threads, waits
from ops.registry import MODULE_PREFIX, OPS
