#!/usr/bin/env python3
"""Builds the C library alone and runs its tests; needs no source of CPython."""

import argparse

from common import ROOT, Stop, locked, main, run
from interpreter import configure, check_preset


def _main():
    parser = argparse.ArgumentParser(prog="build.sh lib", description=__doc__)
    parser.add_argument("--preset", default="hard",
                        help="hard (default), release, debug, asan, tsan, ubsan")
    options = parser.parse_args()
    check_preset(options.preset)
    if options.preset.startswith("stock"):
        raise Stop(f"preset {options.preset} has no library")
    with locked(options.preset):
        out = configure(options.preset)
        run(["cmake", "--build", str(out)], cwd=ROOT)
    run(["ctest", "--test-dir", str(out), "--output-on-failure"], cwd=ROOT,
        what="tests of the library")


if __name__ == "__main__":
    main(_main)
