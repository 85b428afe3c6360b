#!/usr/bin/env python3
"""Builds one interpreter by its CMake preset: build/<preset>/install/bin/python3."""

import argparse
import json
import os
import subprocess

import tree
from common import (BUILD, ROOT, Stop, check_free, compiler, jobs, locked, main, remove, run,
                    say)

PRESETS = ROOT / "CMakePresets.json"
LINK = BUILD / "python"         # the interpreter that people and tests use


def preset_names():
    return [p["name"] for p in json.loads(PRESETS.read_text())["configurePresets"]
            if not p.get("hidden")]


def add_options(parser):
    parser.add_argument("--preset", default="release")
    parser.add_argument("--malloc", choices=("default", "jemalloc"), default="default")
    parser.add_argument("--source", metavar="FILE")
    parser.add_argument("--cpython", metavar="VERSION")


def check_preset(name):
    if name not in preset_names():
        raise Stop(f"--preset {name}: accepted: {', '.join(preset_names())}")


def configure(preset, malloc="default"):
    """Runs CMake's configure step where it has not been run; returns the directory."""
    check_preset(preset)
    out = BUILD / (preset if malloc == "default" else f"{preset}-{malloc}")
    done = out / "build.ninja"
    # Other presets or another compiler: CMake keeps what its cache has, so start anew.
    presets = PRESETS.read_text()
    key = json.dumps([presets, malloc, os.environ.get("CC", "")])
    record = out / "preset.json"
    if done.is_file() and record.is_file() and record.read_text() == key:
        return out
    remove(out / "CMakeCache.txt")
    # CMakeLists.txt adds ccache itself; twice is an error of ccache.
    env = {**os.environ}
    if "CC" in env:
        env["CC"] = compiler(cached=False)
    run(["cmake", "--preset", preset, "-B", str(out), f"-DVT_MALLOC={malloc}",
         "-Wno-dev", "--log-level=WARNING"], cwd=ROOT, env=env)
    record.write_text(key)
    return out


def build(preset="release", malloc="default", source=None, version=None, link=True):
    """Everything up to the installation; returns the interpreter's path."""
    check_preset(preset)
    jobs()                              # a bad JOBS or CC is said now
    compiler()
    check_free(at_least=256 << 20)
    _, place = tree.prepare(source, version, patched=not preset.startswith("stock"))
    out = BUILD / (preset if malloc == "default" else f"{preset}-{malloc}")
    with locked(out.name):
        configure(preset, malloc)
        run(["cmake", "--build", str(out), "--target", "python"], cwd=ROOT)
    python = (out / "install" / "bin" / "python3").resolve()
    done = subprocess.run([python, "-c", "import sys, ssl, sqlite3, ctypes, zlib, bz2, lzma"],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Stop(f"{python} does not work: {lines[-1] if lines else done.returncode}")
    if link and preset in ("release", "release-pgo"):
        point_at(python)
    return python


def point_at(python):
    """Makes build/python a symlink to an interpreter, atomically."""
    target = os.path.relpath(python, BUILD)
    if LINK.is_symlink() and os.readlink(LINK) == target:
        return
    new = BUILD / ".python.new"
    remove(new)
    new.symlink_to(target)
    new.rename(LINK)
    say(f"build/python -> {target}")


def _main():
    parser = argparse.ArgumentParser(prog="build.sh py", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    print(build(options.preset, options.malloc, options.source, options.cpython))


if __name__ == "__main__":
    main(_main)
