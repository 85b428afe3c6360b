"""Virtual environments with wheels from PyPI, as published.

The wheels are downloaded once, with hashes, into ~/.cache/vthreads/wheels.
"""

import os
import pathlib
import shutil
import subprocess


def wheels():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "vthreads/wheels"


def make_venv(python, directory, requirements):
    """A venv of python with the wheels of that file; returns its interpreter."""
    run = subprocess.check_call
    # The binary itself, as a venv of build/python would follow it when it is
    # pointed at another build.
    python = pathlib.Path(python).resolve()
    made = directory / "bin/python"
    stamp = directory / "stamp"
    want = f"{python} {python.stat().st_mtime_ns}\n{requirements.read_text()}"
    if stamp.exists() and stamp.read_text() == want:
        return made
    shutil.rmtree(directory, ignore_errors=True)
    run([python, "-m", "venv", directory])
    store = wheels()
    store.mkdir(parents=True, exist_ok=True)
    pip = [made, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "--no-index", "--find-links", store,
               "--require-hashes", "-r", requirements]
    if subprocess.call(install, stderr=subprocess.DEVNULL):
        # Binary only: the wheel as published is what is to be shown.
        run([*pip, "download", "--only-binary", ":all:", "--no-deps",
             "--require-hashes", "-d", store, "-r", requirements])
        run(install)
    stamp.write_text(want)
    return made
