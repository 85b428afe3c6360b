"""Recursion through C ends in RecursionError, never in the guard below the stack.

Each case runs from the first frame of a virtual thread, and again where its C stack is
used up: as deep in a recursion through C as it still can be called.  A crash ends the
test process, so the cases run in processes of their own.
"""

import textwrap
import unittest
from test.support import script_helper

from test.test_virtual_threading.util import TestCase

# Runs CASE() in a virtual thread, and says what came of it.
RUN = """
import sys
import virtual_threading

sys.setrecursionlimit(1_000_000)    # the limit of Python frames is not the subject

def outcome():
    try:
        return CASE()
    except (RecursionError, MemoryError, ValueError, SyntaxError) as exc:
        return type(exc).__name__

def recurse(_):
    # From the deepest place where CASE can be called at all, see below.
    global result
    try:
        sorted([1], key=recurse)
    except RecursionError:
        pass
    if result is None:
        try:
            result = CASE()
        except RecursionError as exc:
            # Of the call itself?  Then again one level up, where there is more room;
            # the case's own RecursionError comes there too, and ends the climb.
            global climbed
            climbed += 1
            if climbed > 20:
                result = "RecursionError"
        except (MemoryError, ValueError, SyntaxError) as exc:
            result = type(exc).__name__

def main():
    global result
    if DEEP:
        recurse(0)
    else:
        result = outcome()

result = None
climbed = 0
thread = virtual_threading.spawn(main)
thread.join()
print(result)
"""

NESTED = """
def nested(n, type=list):
    x = type()
    for _ in range(n):
        x = type([x])
    return x
"""


class RecursionTests(TestCase):

    def run_case(self, source, deep):
        script = textwrap.dedent(source) + f"\nDEEP = {deep}\n" + RUN
        _, out, _ = script_helper.assert_python_ok("-c", script)
        return out.decode().strip()

    def check(self, source, *expected):
        """Either way one of the outcomes, at depth also "ok"."""
        with self.subTest(deep=False):
            self.assertIn(self.run_case(source, False), expected)
        with self.subTest(deep=True):
            self.assertIn(self.run_case(source, True),
                          ("ok", "RecursionError", "MemoryError", *expected))

    def test_sorted(self):
        self.check("""
            def CASE(_=0):
                return sorted([1, 2], key=CASE)
            """, "RecursionError")

    def test_map(self):
        self.check("""
            def CASE(_=0):
                return list(map(CASE, [1]))
            """, "RecursionError")

    def test_eq(self):
        self.check("""
            class C:
                def __eq__(self, other):
                    return C() in [C()]
            def CASE():
                return C() == C()
            """, "RecursionError")

    def test_repr(self):
        self.check("""
            class C:
                def __repr__(self):
                    return repr([C()])
            def CASE():
                return repr(C())
            """, "RecursionError")

    def test_hash(self):
        # Platform threads do that, without a limit.
        self.check("""
            x = ()
            for _ in range(20_000):
                x = (x,)
            def CASE():
                return hash(x)
            """, "RecursionError")

    def test_init(self):
        self.check("""
            class Meta(type):
                def __call__(cls):
                    return super().__call__()
            class C(metaclass=Meta):
                def __init__(self):
                    C()
            def CASE():
                return C()
            """, "RecursionError")

    def test_getattr(self):
        self.check("""
            class C:
                def __getattr__(self, name):
                    return getattr(self, name + "x")
            def CASE():
                return C().a
            """, "RecursionError")

    def test_generators(self):
        self.check("""
            def gen():
                yield sum(gen())
            def CASE():
                return sum(gen())
            """, "RecursionError")

    def test_json(self):
        self.check("""
            import json
            def CASE():
                return json.loads("[" * 100_000 + "]" * 100_000)
            """, "RecursionError")

    def test_json_dumps(self):
        self.check(NESTED + """
import json
value = nested(50_000)
def CASE():
    return json.dumps(value)
""", "RecursionError")

    def test_pickle(self):
        self.check(NESTED + """
import pickle
value = nested(50_000)
def CASE():
    return pickle.dumps(value)
""", "RecursionError")

    def test_marshal_dumps(self):
        self.check(NESTED + """
import marshal
value = nested(3_000)
def CASE():
    return marshal.dumps(value)
""", "ValueError")

    def test_marshal_loads(self):
        self.check("""
            import marshal
            value = b"[\\1\\0\\0\\0" * 100_000 + b"N"
            def CASE():
                return marshal.loads(value)
            """, "ValueError")

    def check_compile(self, expression, *expected):
        self.check(f"""
            source = {expression}
            def CASE():
                compile(source, "source", "exec")
                return "ok"
            """, *expected)

    def test_compile_brackets(self):
        # The tokenizer allows 199; that many fit in a stack that is not used otherwise.
        self.check_compile("'[' * 199 + ']' * 199", "ok")

    def test_compile_unary(self):
        self.check_compile("'-' * 50_000 + '1'", "MemoryError", "RecursionError")

    def test_compile_not(self):
        self.check_compile("'not ' * 9_000 + '1'", "MemoryError", "RecursionError")

    def test_compile_lambda(self):
        self.check_compile("'lambda:' * 5_000 + '1'", "MemoryError", "RecursionError")

    def test_compile_sum(self):
        self.check_compile("'+'.join('a' * 100_000)", "RecursionError")

    def test_compile_attributes(self):
        self.check_compile("'a' + '.a' * 100_000", "RecursionError")

    def test_compile_elif(self):
        self.check_compile("'if 1: pass\\n' + 'elif 1: pass\\n' * 9_000",
                           "MemoryError", "RecursionError")

    def test_ast_parse(self):
        self.check("""
            import ast
            source = 'if 1: pass\\n' + 'elif 1: pass\\n' * 2_500
            def CASE():
                ast.parse(source)
                return "ok"
            """, "ok", "MemoryError", "RecursionError")

    def test_ast_dump(self):
        self.check("""
            import ast
            tree = ast.parse("+".join("a" * 200))
            def CASE():
                compile(tree, "source", "exec")
                return "ok"
            """, "ok", "MemoryError", "RecursionError")

    def test_decimal(self):
        # A multiplication by number-theoretic transform has large matrices.
        self.check("""
            import decimal
            context = decimal.Context(prec=1_000_000)
            number = decimal.Decimal("7" * 200_000)
            def CASE():
                context.multiply(number, number)
                return "ok"
            """, "ok")

    def test_regex(self):
        self.check("""
            import re
            pattern = re.compile("(?:(a)|b)*c")
            def CASE():
                pattern.match("ab" * 10_000)
                return "ok"
            """, "ok")

    def test_format(self):
        self.check("""
            def CASE():
                assert len("%.500f" % 1e300) == 802
                return "ok"
            """, "ok")

    def test_getaddrinfo(self):
        self.check("""
            import socket
            def CASE():
                socket.getaddrinfo("127.0.0.1", 80)
                return "ok"
            """, "ok")

    def test_import_of_extension(self):
        self.check("""
            def CASE():
                import _testbuffer
                return "ok"
            """, "ok")

    def check_dealloc(self, make):
        self.check(f"""
            class Node:
                pass
            def chain():
                x = None
                for _ in range(100_000):
                    {make}
                return x
            box = []
            def CASE():
                box.append(chain())
                box.clear()
                return "ok"
            """, "ok")

    def test_dealloc_list(self):
        self.check_dealloc("x = [x]")

    def test_dealloc_tuple(self):
        self.check_dealloc("x = (x,)")

    def test_dealloc_dict(self):
        self.check_dealloc("x = {1: x}")

    def test_dealloc_object(self):
        self.check_dealloc("node = Node(); node.next = x; x = node")

    def test_dealloc_set(self):
        self.check_dealloc("x = frozenset([x])")

    def test_dealloc_exception(self):
        self.check_dealloc("x = ValueError(x)")

    def test_deallocs_are_made_up_for(self):
        # What the trashcan kept back where the stack was low is freed, and its finalizers
        # run, on the way up.
        self.check("""
            count = 0
            class C:
                def __del__(self):
                    global count
                    count += 1
            made = 0
            def CASE():
                global made
                x = None
                for _ in range(10_000):
                    c = C()
                    made += 1
                    c.next = x
                    x = c
                return "ok"
            import atexit
            @atexit.register
            def at_exit():
                assert count == made, (count, made)
            """, "ok")


class DepthTests(TestCase):

    def test_python_frames(self):
        # The data stack starts in the thread's own memory and grows.
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)

        self.assertEqual(self.call_all([lambda: depth(900)] * 10), [900] * 10)

    def test_large_frames(self):
        namespace = {}
        names = ", ".join(f"a{i}" for i in range(3_000))
        exec(f"def f(n, {names.replace(',', '=1,')}=1):\n"
             f"    return n and f(n - 1) + a2999", namespace)
        self.assertEqual(self.call(namespace["f"], 20), 20)

    def test_up_and_down(self):
        # Over the border of a chunk many times; generators keep frames of their own.
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)

        def walk(n):
            if n:
                yield n
                yield from walk(n - 1)

        def run():
            return [depth(n) for n in range(100)], sum(walk(100))

        self.assertEqual(self.call(run), (list(range(100)), 5050))

    def test_entries(self):
        # Many activations of the eval loop at once: sorted() and map() call Python.
        def entries(n):
            return 0 if n == 0 else 1 + sorted([n], key=lambda _: next(map(entries, [n - 1])))[0]

        self.assertEqual(self.call_all([lambda: entries(40)] * 10), [41] * 10)


if __name__ == "__main__":
    unittest.main()
