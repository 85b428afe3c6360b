#!/usr/bin/env python3
"""From the sources to the demo: ./build.sh --free-threading."""

import argparse
import subprocess

import interpreter
from common import Stop, main, run, say


def _main():
    parser = argparse.ArgumentParser(prog="build.sh --free-threading",
                                     description=__doc__)
    interpreter.add_options(parser)
    parser.add_argument("--no-demo", action="store_true")
    options = parser.parse_args()
    python = interpreter.build(options.preset, options.malloc,
                               options.source, options.cpython)
    interpreter.point_at(python)
    if options.no_demo or options.preset.startswith("stock"):
        return
    there = subprocess.run([python, "-c", "import virtual_threading"],
                           stderr=subprocess.PIPE, text=True)
    if there.returncode:
        lines = there.stderr.strip().splitlines()
        raise Stop("the interpreter is built, but the demo cannot run: "
                   + (lines[-1] if lines else "import virtual_threading failed"))
    run([str(interpreter.LINK), "-m", "virtual_threading", "demo"], what="the demo")
    say("done: build/python is the interpreter")


if __name__ == "__main__":
    main(_main)
