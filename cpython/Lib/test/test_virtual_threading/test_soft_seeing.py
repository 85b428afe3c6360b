"""What others see of threads that wait without a native stack: frames, events, references."""

import concurrent.futures
import ctypes
import functools
import gc
import io
import json
import queue
import sys
import threading
import time
import traceback
import unittest
import weakref

import virtual_threading
from test.test_virtual_threading.soft_util import WAITS, SoftSocketTestCase, SoftTestCase
from test.test_virtual_threading.util import COUNT, LONG, SHORT, TIMEOUT
from virtual_threading import spawn


class Sleeper:
    """Waits in an __enter__ in Python."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        time.sleep(self.seconds)

    def __exit__(self, *args):
        pass


class SeeingTests(SoftTestCase):

    def waiting(self, func):
        """func(thread) while a thread waits two functions deep."""
        lock = threading.Lock()
        frames = []
        def inner():
            frames.append(sys._getframe())
            lock.acquire()
            lock.release()
        def outer():
            inner()
        lock.acquire()
        thread = spawn(outer)
        self.wait_until(lambda: thread.state == 'parked', "the thread parked")
        try:
            return func(thread, frames[0])
        finally:
            lock.release()
            self.join([thread])

    def test_frames(self):
        def look(thread, frame):
            found = []
            while frame is not None:
                found.append((frame.f_code.co_qualname, frame.f_lineno,
                              sorted(frame.f_locals)))
                frame = frame.f_back
            return found
        found = self.both_ways(lambda: self.waiting(look))
        self.assertIn('inner', found[0][0])
        self.assertIn('outer', found[1][0])

    def test_frame_objects_while_it_ends(self):
        def run():
            kept = []
            self.waiting(lambda thread, frame: kept.append(frame))
            gc.collect()
            frame, found = kept[0], []
            while frame is not None:
                found.append(frame.f_code.co_name)
                frame = frame.f_back
            return found
        self.assertEqual(self.both_ways(run)[0], 'inner')

    def test_dump(self):
        def look(thread, frame):
            file = io.StringIO()
            virtual_threading.dump(file, format="json")
            found = [t for t in json.loads(file.getvalue())['threads']
                     if t['id'] == thread.ident]
            entry, = found
            return [entry['state'], entry['waiting']['for'],
                    [(f['function'], f['line']) for f in entry['stack']]]
        self.both_ways(lambda: self.waiting(look))

    WAITS = 5

    def events(self, start, stop):
        """The events that start(record) has recorded of a thread that waits."""
        def run():
            lock = threading.Lock()
            found = []
            def wait():
                with lock:
                    pass
                lock.acquire(timeout=0.001)
                lock.acquire(True, 0.001)
                lock.acquire(blocking=True, timeout=0.001)
                time.sleep(*(0.001,))
                lock.release()
                with Sleeper(0.001):
                    pass
            def body():
                start(found)
                wait()
                stop()
            lock.acquire()
            thread = spawn(body)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            lock.release()
            self.join([thread])
            return found
        return run

    def test_settrace(self):
        def start(found):
            def trace(frame, event, arg):
                found.append((frame.f_code.co_name, event, frame.f_lineno))
                return trace
            sys.settrace(trace)
        found = self.both_ways(self.events(start, lambda: sys.settrace(None)))
        self.assertIn('line', {event for _, event, _ in found})

    def test_setprofile(self):
        def start(found):
            def profile(frame, event, arg):
                found.append((frame.f_code.co_name, event,
                              getattr(arg, '__name__', None)))
            sys.setprofile(profile)
        found = self.both_ways(self.events(start, lambda: sys.setprofile(None)),
                               least=self.WAITS)
        for name in ('acquire', 'sleep'):
            self.assertIn(('wait', 'c_call', name), found)
            self.assertIn(('wait', 'c_return', name), found)

    def test_monitoring(self):
        tool, events = 4, sys.monitoring.events
        def start(found):
            sys.monitoring.use_tool_id(tool, "soft")
            for event in (events.CALL, events.C_RETURN, events.C_RAISE):
                def record(code, offset, callable, arg0, event=event):
                    if code.co_filename == __file__ and code.co_name == 'wait':
                        found.append((event, callable.__name__))
                sys.monitoring.register_callback(tool, event, record)
            sys.monitoring.set_events(tool, events.CALL)
        def stop():
            sys.monitoring.set_events(tool, 0)
            sys.monitoring.free_tool_id(tool)
        found = self.both_ways(self.events(start, stop), least=self.WAITS)
        self.assertIn((events.C_RETURN, 'sleep'), found)

    def test_raises(self):
        # The event comes after the wait, and what its handler raises replaces the exception.
        def run(sleep):
            found = []
            def profile(frame, event, arg):
                if event.startswith('c_') and arg is time.sleep:
                    found.append(event)
                    if event == 'c_exception':
                        raise ValueError("of the handler")
            def body():
                sys.setprofile(profile)
                try:
                    sleep()
                except ValueError as exc:
                    found.append((str(exc), repr(exc.__context__)))
                sys.setprofile(None)
            thread = spawn(body)
            self.wait_until(lambda: found and thread.state == 'parked', "the thread sleeps")
            thread.interrupt(KeyError(1))
            self.join([thread])
            return found
        for sleep in lambda: time.sleep(LONG), lambda: time.sleep(*[LONG]):
            found = self.both_ways(lambda: run(sleep))
            self.assertEqual(found[:2], ['c_call', 'c_exception'])
            self.assertEqual(found[2][0], "of the handler")

    def test_monitored_arguments(self):
        # The event has the callable and the first argument of the call.
        tool, events = 4, sys.monitoring.events
        def run():
            lock, found = threading.Lock(), []
            lock.acquire()
            def wait():
                acquire = threading.Lock.acquire
                acquire(lock, True, 0.001)
                acquire(lock, timeout=0.001)
                acquire(*[lock, True], timeout=0.001)
                lock.acquire(True, 0.001)
                time.sleep(0.001)
            def record(code, offset, callable, arg0):
                if code is wait.__code__:
                    found.append((callable.__name__, arg0 is lock or arg0))
            sys.monitoring.use_tool_id(tool, "soft")
            try:
                sys.monitoring.register_callback(tool, events.C_RETURN, record)
                sys.monitoring.register_callback(tool, events.CALL, lambda *args: None)
                sys.monitoring.set_events(tool, events.CALL)
                self.call_all([wait])
            finally:
                sys.monitoring.set_events(tool, 0)
                sys.monitoring.free_tool_id(tool)
            return found
        self.assertEqual(self.both_ways(run, least=5),
                         [('acquire', True)] * 4 + [('sleep', 0.001)])

    def test_no_more_profiled_while_parked(self):
        def run():
            lock, found = threading.Lock(), []
            lock.acquire()
            def profile(frame, event, arg):
                found.append((event, getattr(arg, '__name__', None)))
            def body():
                sys.setprofile(profile)
                lock.acquire(True)
                lock.release()
            thread = spawn(body)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            threading.setprofile_all_threads(None)
            lock.release()
            self.join([thread])
            return found
        self.assertEqual(self.both_ways(run)[0], ('c_call', 'acquire'))

    def test_trace_while_parked(self):
        def run():
            lock = threading.Lock()
            found = []
            def wait():
                lock.acquire()
                lock.release()
                return 1
            def trace(frame, event, arg):
                if frame.f_code is wait.__code__:
                    found.append((event, frame.f_lineno))
                return trace
            def body():
                wait()
            lock.acquire()
            thread = spawn(body)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            threading.settrace_all_threads(trace)
            try:
                lock.release()
                self.join([thread])
            finally:
                threading.settrace_all_threads(None)
            return found
        self.both_ways(run)

    @unittest.skipUnless(hasattr(ctypes, 'pythonapi'), "needs ctypes.pythonapi")
    def test_asynchronous_exception(self):
        class Stop(Exception):
            pass
        def interrupt(block):
            lock = threading.Lock()
            found = []
            def wait():
                try:
                    block(lock)
                except Stop as exc:
                    found.append([(f.name, f.lineno) for f in
                                  traceback.extract_tb(exc.__traceback__)])
                found.append(lock.locked())
            lock.acquire()
            thread = spawn(wait)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
            self.assertEqual(set_async_exc(ctypes.c_ulong(thread.ident),
                                           ctypes.py_object(Stop)), 1)
            lock.release()
            self.join([thread])
            return found
        def call(lock):
            lock.acquire()
            self.fail("the exception comes right after the call")
        def with_(lock):
            with lock:
                for _ in range(1000):
                    str(_)
        self.assertEqual(self.both_ways(lambda: interrupt(call))[-1], True)
        self.assertEqual(self.both_ways(lambda: interrupt(with_))[-1], False)


class ReferenceTests(SoftTestCase):

    def test_references(self):
        def run():
            lock = threading.Lock()
            class Timeout(float):
                pass
            timeout = Timeout(TIMEOUT)
            ref = weakref.ref(timeout)
            before = sys.getrefcount(lock), sys.getrefcount(timeout)
            def wait():
                for _ in range(3):
                    lock.acquire(True, timeout)
                    lock.release()
                    with lock:
                        pass
            with lock:
                threads = [spawn(wait) for _ in range(COUNT)]
                self.wait_until(lambda: {t.state for t in threads} == {'parked'},
                                "all parked")
            self.join(threads)
            del threads, wait
            gc.collect()
            self.assertEqual((sys.getrefcount(lock), sys.getrefcount(timeout)), before)
            del timeout
            gc.collect()
            return ref() is None
        self.assertTrue(self.both_ways(run))

    def test_only_reference(self):
        # The call holds the last reference of the lock.
        def run():
            locks = [threading.Lock()]
            locks[0].acquire()
            ref = weakref.ref(locks[0])
            def wait():
                box.append(locks.pop().acquire())
            box = []
            thread = spawn(wait)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            ref().release()
            self.join([thread])
            gc.collect()
            return box, ref()
        self.assertEqual(self.both_ways(run), ([True], None))

    def test_argument_that_waits(self):
        # Arguments are dropped on the way out of the eval loop, and that runs Python.
        def run():
            log = []
            class Timeout(float):
                def __del__(self):
                    time.sleep(0.0001)
                    with lock:
                        log.append('del')
                    try:
                        1 / 0
                    except ZeroDivisionError:
                        pass
            lock = threading.Lock()
            blocked = threading.Lock()
            blocked.acquire()
            def wait():
                result = (time.sleep(Timeout(0.001)), blocked.acquire(True, Timeout(0.001)),
                          blocked.acquire(timeout=Timeout(0.001)))
                time.sleep(*(Timeout(0.001),))
                return result
            result = self.call(wait)
            # Where the thread has moved, the owner of the memory deletes them, some time, or
            # the collector.
            gc.collect()
            self.wait_until(lambda: len(log) == 4, "all arguments deleted")
            return result
        self.assertEqual(self.both_ways(run), (None, False, False))

    def test_argument_that_calls_the_same(self):
        # The offer is for the outer call; what its arguments run takes none.
        def run():
            log = []
            blocked = threading.Lock()
            blocked.acquire()
            class Yes:
                def __bool__(self):
                    log.append(functools.partial(blocked.acquire, True, 0.001)())
                    log.append(blocked.acquire(True, 0.001))
                    return True
            class Seconds:
                def __index__(self):
                    log.append(next(map(time.sleep, [0.001])))
                    return 0
            def wait():
                return blocked.acquire(Yes(), 0.001), time.sleep(Seconds())
            return self.call(wait), log
        self.assertEqual(self.both_ways(run),
                         ((False, None), [False, False, None]))


class EveryWaitTests(SoftSocketTestCase):
    """Each builtin that waits, with each way to call it and each end of the wait."""

    @staticmethod
    def record(events, kind):
        """Begins to record what kind of hook sees of this thread; returns what ends that."""
        def trace(frame, event, arg):
            events.append((frame.f_code.co_name, event, frame.f_lineno))
            return trace
        def profile(frame, event, arg):
            events.append((frame.f_code.co_name, event, getattr(arg, '__name__', None)))
        tool, monitoring, ident = 4, sys.monitoring, threading.get_ident()
        def stop_monitoring():
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)

        if kind == 'settrace':
            sys.settrace(trace)
            return lambda: sys.settrace(None)
        if kind == 'setprofile':
            sys.setprofile(profile)
            return lambda: sys.setprofile(None)
        if kind == 'monitoring':
            monitoring.use_tool_id(tool, "soft")
            for name in ('CALL', 'C_RETURN', 'C_RAISE'):
                def called(code, offset, callable, arg0, name=name):
                    if threading.get_ident() == ident:
                        events.append((code.co_name, name, getattr(callable, '__name__', None)))
                monitoring.register_callback(tool, getattr(monitoring.events, name), called)
            monitoring.set_events(tool, monitoring.events.CALL)
            return stop_monitoring
        return lambda: None

    def watch(self, wait, call, end, kind):
        """(events, outcome) of a thread that waits by call(); checks references."""
        events, outcome = [], []
        with wait.make(self, SHORT if end == 'timed out' else LONG) as (obj, arg, release):
            def body():
                try:
                    stop = self.record(events, kind)
                    del events[:]       # of code that another hook had instrumented before
                    try:
                        result = call(obj, arg)
                    finally:
                        stop()
                    outcome.extend([type(result), sys.getrefcount(result)])
                except (OSError, ValueError, queue.Empty) as exc:
                    outcome.extend([repr(exc), repr(exc.__context__), exc.__traceback__.tb_lasti,
                                    [(f.name, f.lineno, f.colno, f.end_colno) for f in
                                     traceback.extract_tb(exc.__traceback__)]])
            def references():
                return sys.getrefcount(obj), sys.getrefcount(arg)

            before = after = references()
            if (wait.name, end) == ('join', 'released'):
                after = before[0] - 1, before[1]        # what has ended had one of itself
            thread = spawn(body)
            try:
                if end != 'timed out':
                    self.wait_until(lambda: wait.is_waiting(self, thread, arg), "the thread waits",
                                    delay=0.0005)
                if end == 'released':
                    release()
                elif end == 'interrupted':
                    thread.interrupt(ValueError(1))
                elif end == 'closed':
                    obj.close()
                self.join([thread])
            except BaseException:
                thread.interrupt(ValueError(1))     # or it stays for ever
                raise
            # Where the thread has moved, what it had made there is dropped a little later.
            self.wait_until(lambda: references() == after, f"{after} references")
        if wait.name == 'yield_now':
            events = list(dict.fromkeys(events))        # the number of turns is chance
        return events, outcome

    def check_end(self, wait, events, outcome, kind):
        # What is the same both ways might be nothing.
        raised = len(outcome) > 2
        if kind == 'settrace':
            self.assertIn('exception' if raised else 'return', {event for _, event, _ in events})
        elif kind is not None and wait.name is not None:
            end = {('setprofile', False): 'c_return', ('setprofile', True): 'c_exception',
                   ('monitoring', False): 'C_RETURN', ('monitoring', True): 'C_RAISE'}
            self.assertIn((end[kind, raised], wait.name),
                          {(event, name) for _, event, name in events})

    def check_all(self, kind):
        # Each call with the first end, each end of the plain call.
        for wait in WAITS:
            for name, call in wait.calls.items():
                for end in wait.ends if name == 'plain' else wait.ends[:1]:
                    # Who comes late to a short wait does not wait any more.
                    least = 0 if end == 'timed out' else 1
                    with self.subTest(wait=wait.name, call=name, end=end):
                        events, outcome = self.both_ways(
                            lambda: self.watch(wait, call, end, kind),
                            wait.is_soft(name, kind), least)
                        self.check_end(wait, events, outcome, kind)

    def test_references_and_tracebacks(self):
        self.check_all(None)

    def test_settrace(self):
        self.check_all('settrace')

    def test_setprofile(self):
        self.check_all('setprofile')

    def test_monitoring(self):
        self.check_all('monitoring')

    def test_connect(self):
        # All at once, as each takes a second.
        connect, = (wait for wait in WAITS if wait.name == 'connect')
        kinds = None, 'settrace', 'setprofile', 'monitoring'
        def watch(kind):
            return self.watch(connect, connect.calls['plain'], 'released', kind)
        def run():
            with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
                return list(pool.map(watch, kinds))
        for kind, (events, outcome) in zip(kinds, self.both_ways(run, least=len(kinds))):
            self.check_end(connect, events, outcome, kind)


if __name__ == "__main__":
    unittest.main()
