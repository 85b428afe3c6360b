"""sys.settrace, sys.setprofile and sys.monitoring."""

import sys
import threading
import unittest

from continuations import Continuation, yield_


class TraceTests(unittest.TestCase):

    def test_settrace(self):
        events = []
        def tracer(frame, event, arg):
            if frame.f_code in codes:
                events.append((frame.f_code.co_name, event))
            return tracer

        def func():
            yield_(1)
            return 2

        def other():
            pass

        codes = (func.__code__, other.__code__)
        c = Continuation(func)
        old = sys.gettrace()
        sys.settrace(tracer)
        try:
            c.start()
            other()
            c.send(None)
        finally:
            sys.settrace(old)
        self.assertEqual([e for e in events if e[1] != 'line'],
                         [('func', 'call'), ('other', 'call'), ('other', 'return'),
                          ('func', 'return')])
        self.assertEqual(events.count(('func', 'line')), 2)

    def test_settrace_inside(self):
        def func():
            old = sys.gettrace()
            sys.settrace(tracer)
            yield_(old)
            current = sys.gettrace()
            sys.settrace(old)
            return current

        def tracer(frame, event, arg):
            return None

        before = sys.gettrace()
        c = Continuation(func)
        self.assertIs(c.start(), before)
        # As in a generator: it is the thread's.
        self.assertIs(sys.gettrace(), tracer)
        self.assertIs(c.send(None), tracer)
        self.assertIs(sys.gettrace(), before)

    def test_setprofile(self):
        calls = []
        def profiler(frame, event, arg):
            if frame.f_code is func.__code__:
                calls.append(event)

        def func():
            yield_(1)

        c = Continuation(func)
        old = sys.getprofile()
        sys.setprofile(profiler)
        try:
            c.start()
            c.send(None)
        finally:
            sys.setprofile(old)
        self.assertEqual([e for e in calls if not e.startswith('c_')], ['call', 'return'])

    def test_settrace_all_threads(self):
        def tracer(frame, event, arg):
            return None

        def func():
            threading.settrace_all_threads(tracer)
            self.assertIs(sys.gettrace(), tracer)
            yield_()
            threading.settrace_all_threads(None)
            self.assertIsNone(sys.gettrace())

        old = sys.gettrace()
        old_of_threads = threading.gettrace()
        c = Continuation(func)
        try:
            c.start()
            self.assertIs(sys.gettrace(), tracer)
            c.send(None)
            self.assertIsNone(sys.gettrace())
        finally:
            sys.settrace(old)
            threading.settrace(old_of_threads)

    def test_started_by_a_trace_function(self):
        calls = []
        def tracer(frame, event, arg):
            calls.append(frame.f_code)
            Continuation(func).start()

        def func():
            pass

        old = sys.gettrace()
        sys.settrace(tracer)
        try:
            (lambda: None)()
        finally:
            sys.settrace(old)
        self.assertNotIn(func.__code__, calls)

    def test_monitoring(self):
        lines = []
        mon = sys.monitoring
        tool = 3
        mon.use_tool_id(tool, "test_continuations")
        self.addCleanup(mon.free_tool_id, tool)

        def func():
            yield_(1)
            x = 1
            return x

        # Switched on while it is suspended.
        c = Continuation(func)
        c.start()
        def on_line(code, line):
            if code is func.__code__:
                lines.append(line - code.co_firstlineno)
        mon.register_callback(tool, mon.events.LINE, on_line)
        mon.set_events(tool, mon.events.LINE)
        try:
            c.send(None)
        finally:
            mon.set_events(tool, 0)
            mon.register_callback(tool, mon.events.LINE, None)
        self.assertEqual(lines, [2, 3])

    def test_monitoring_is_switched_on_inside(self):
        lines = []
        mon = sys.monitoring
        tool = 3
        mon.use_tool_id(tool, "test_continuations")
        self.addCleanup(mon.free_tool_id, tool)

        def on_line(code, line):
            if code is resumer.__code__:
                lines.append(line - code.co_firstlineno)

        def func():
            mon.register_callback(tool, mon.events.LINE, on_line)
            mon.set_events(tool, mon.events.LINE)

        def resumer():
            Continuation(func).start()
            x = 1
            return x

        try:
            resumer()
        finally:
            mon.set_events(tool, 0)
            mon.register_callback(tool, mon.events.LINE, None)
        self.assertEqual(lines, [2, 3])


if __name__ == "__main__":
    unittest.main()
