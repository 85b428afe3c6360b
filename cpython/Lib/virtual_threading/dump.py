"""Dumps: every virtual thread, what it does or waits for, and its stack.

Problem solved: a program with a hundred thousand threads hangs, and nobody knows which
one waits for what.  A parked thread is on no OS thread, so no debugger and no
faulthandler finds it.

The snapshot is made by _vthread at one moment, with all threads stopped; the formatting
takes no lock but that of the file.  Not here: who owns the lock that a thread waits
for, and the dump of another process.
"""

import _vthread
import collections
import json
import operator
import sys
import threading
import time

__all__ = ['dump']


def dump(file=None, *, format="text"):
    """Write all virtual threads that have started and not ended to *file*.

    *file* is a text file, sys.stderr by default.  *format* is "text" or "json"; ValueError
    is raised for another one.  Stacks have the innermost call last, as tracebacks do.

    All threads of the interpreter are stopped while the stacks are read, for a time
    proportional to the number of virtual threads and the depth of their stacks; they run
    again while the file is written.  Characters that the file's encoding does not have are
    written as backslash escapes.
    """
    if format not in _FORMATS:
        accepted = " or ".join(map(repr, _FORMATS))
        raise ValueError(f"format must be {accepted}, not {format!r}")
    if file is None:
        file = sys.stderr
    threads = sorted((entry for entry in _vthread.snapshot() if not _has_ended(entry[1])),
                     key=lambda entry: entry[0])
    _FORMATS[format](file, threads, _vthread.stats(), time.monotonic())
    file.flush()


def _has_ended(thread):
    # Who has joined it does not expect to see it while it is being taken down.
    return thread is not None and thread._handle.is_done()


def _text(obj, path):
    # An attribute as an exact str; None if there is none.  The names of a program may be
    # anything, and one that fails must not keep the other threads from being seen.
    try:
        value = operator.attrgetter(path)(obj)
        return None if value is None else str.__str__(str(value))
    except Exception:
        return None


def _name(ident, thread):
    if thread is None:
        # A threading.Thread of a program in which all threads are virtual.
        thread = threading._active.get(ident)
    return _text(thread, 'name') or f"Thread at {ident:#x}"


def _scope(thread):
    # Of a child of a TaskScope, the scope's name.
    return _text(thread, '_scope.name')


def _encodable(text, file):
    encoding = getattr(file, 'encoding', None) or 'utf-8'
    return text.encode(encoding, 'backslashreplace').decode(encoding)


def _write_text(file, threads, stats, now):
    counts = collections.Counter(entry[2] for entry in threads)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    file.write(f"{len(threads)} virtual threads ({states or 'none'}), "
               f"{stats['carriers']} carriers, parallelism {stats['parallelism']}\n")
    for ident, thread, state, carrier, reason, since, stack in threads:
        what = state
        if carrier is not None:
            what += f" on carrier {carrier}"
        if since is not None:
            what += f" for {max(now - since, 0):.3f} s"
        if reason is not None:
            what += f", waiting for {reason}"
        scope = _scope(thread)
        if scope is not None:
            what += f", in scope {scope!r}"
        lines = [f'\n"{_name(ident, thread)}" {ident:#x} {what}\n']
        lines += [f'  File "{filename}", line {line}, in {function}\n'
                  for filename, line, function in stack]
        file.write(_encodable("".join(lines), file))


def _write_json(file, threads, stats, now):
    def describe(entry):
        ident, thread, state, carrier, reason, since, stack = entry
        waiting = None
        if reason is not None:
            waiting = {"for": reason,
                       "since": None if since is None else max(now - since, 0),
                       "owner": None}
        return {"id": ident, "name": _name(ident, thread), "state": state,
                "carrier": carrier, "waiting": waiting, "scope": _scope(thread),
                "stack": [{"file": filename, "line": line, "function": function}
                          for filename, line, function in stack]}

    carriers = sorted({entry[3] for entry in threads if entry[3] is not None})
    json.dump({"threads": [describe(entry) for entry in threads],
               "carriers": [{"id": carrier} for carrier in carriers],
               "stats": stats}, file)
    file.write("\n")


_FORMATS = {"text": _write_text, "json": _write_json}
