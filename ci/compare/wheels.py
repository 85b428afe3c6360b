"""Virtual environments with wheels from PyPI, as published, and packages built from source where
there are none.

They are downloaded once, with hashes, into ~/.cache/vthreads/wheels.
"""

import os
import shutil
import subprocess
from pathlib import Path


def wheels():
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vthreads/wheels"


def install(pip, requirements, how):
    """Installs what that file says; downloads first what has not been downloaded yet."""
    store = wheels()
    store.mkdir(parents=True, exist_ok=True)
    common = [*how, "--no-deps", "--require-hashes", "-r", requirements]
    command = [*pip, "install", "--no-index", "--find-links", store, *common]
    if subprocess.call(command, stderr=subprocess.DEVNULL):
        subprocess.check_call([*pip, "download", "-d", store, *common])
        subprocess.check_call(command)


def make_venv(python, directory, requirements, sources=None):
    """A venv of python with the wheels of that file; returns its interpreter.

    `sources`: another one, of what is built when those are there.
    """
    # The binary itself, as a venv of build/python would follow it when it is
    # pointed at another build.
    python = Path(python).resolve()
    made = directory / "bin/python"
    stamp = directory / "stamp"
    files = [requirements] if sources is None else [requirements, sources]
    want = f"{python} {python.stat().st_mtime_ns}\n{''.join(map(Path.read_text, files))}"
    if stamp.exists() and stamp.read_text() == want:
        return made
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.check_call([python, "-m", "venv", directory])
    pip = [made, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # The wheel as published is what is to be shown.
    install(pip, requirements, ["--only-binary", ":all:"])
    if sources is not None:
        # What builds them is there, of a version that is known.
        install(pip, sources, ["--no-binary", ":all:", "--no-build-isolation"])
    stamp.write_text(want)
    return made
