"""What others see of threads that wait without a native stack: frames, events, references."""

import ctypes
import functools
import gc
import io
import json
import sys
import threading
import time
import traceback
import unittest
import weakref

import virtual_threading
from test.test_virtual_threading.soft_util import SoftTestCase
from test.test_virtual_threading.util import COUNT, LONG, TIMEOUT
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


if __name__ == "__main__":
    unittest.main()
