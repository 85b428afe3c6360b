"""The record of a test run: {name: outcome}, its file format, and differences.

A record's text is sorted and has one line a test, so that two of them can be
compared by any tool (`xzdiff`, `xzcat A | diff - B`); it is stored as .txt.xz,
because 45,000 names are megabytes otherwise:

    # key: value              what ran, on what
    outcome TAB name

A test of CPython is named FILE::CLASS.METHOD (the file as regrtest names it, since
ids alone are not unique: test_idle runs idlelib's).  Outcomes are those of
recorder.py, and for `file:FILE` the state that regrtest gave the whole file, in
lower case.  A test that had begun when its process died is `died`.

unstable.txt lists the tests whose outcome varies on the stock build:

    name TAB outcome[,outcome...] TAB reason
"""

import lzma
import os
import pathlib

CRASHES = {"died", "file:worker_failed", "file:worker_bug", "file:timeout"}


class Record:
    def __init__(self, outcomes=None, about=None):
        self.outcomes = dict(outcomes or {})
        self.about = dict(about or {})

    # -- text -----------------------------------------------------------

    def dumps(self):
        head = [f"# {key}: {value}" for key, value in sorted(self.about.items())]
        body = [f"{outcome}\t{name}"
                for name, outcome in sorted(self.outcomes.items())]
        return "\n".join(head + body) + "\n"

    @classmethod
    def loads(cls, text):
        record = cls()
        for line in text.splitlines():
            if line.startswith("# "):
                key, _, value = line[2:].partition(": ")
                record.about[key] = value
            elif line:
                outcome, _, name = line.partition("\t")
                record.outcomes[name] = outcome
        return record

    def save(self, path):
        data = self.dumps().encode()
        if str(path).endswith(".xz"):
            data = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
        partial = pathlib.Path(f"{path}.partial")
        partial.write_bytes(data)
        partial.replace(path)

    @classmethod
    def load(cls, path):
        data = pathlib.Path(path).read_bytes()
        if str(path).endswith(".xz"):
            data = lzma.decompress(data)
        return cls.loads(data.decode())

    # -- from recorder.py's directory -------------------------------------

    @classmethod
    def collect(cls, directory):
        record = cls()
        directory = pathlib.Path(directory)
        for path in sorted(directory.glob("*.rec")):
            lines = path.read_text("utf-8").splitlines()
            if path.name == "files.rec":
                for line in lines:
                    state, name, _ = line.split("\t")
                    record.outcomes[f"file:{name}"] = state.lower()
            else:
                record._add_worker(lines)
        return record

    def _add_worker(self, lines):
        begun, seen, file = None, {}, None

        def add(name, outcome):
            if file:
                name = f"{file}::{shorten(name, file)}"
            # The same name twice in one process (tests made in loops).
            n = seen[name] = seen.get(name, 0) + 1
            self.outcomes[name if n == 1 else f"{name} #{n}"] = outcome

        for line in lines:
            kind, _, name = line.partition("\t")
            if kind == "=":
                # Another worker, which has got the same process id.
                if begun:
                    add(begun, "died")
                begun, seen, file = None, {}, name
            elif kind == ">":
                if begun:
                    add(begun, "died")
                begun = name
            else:
                if name == begun:
                    begun = None
                add(name, kind)
        if begun:
            add(begun, "died")

    def count(self):
        return sum(not name.startswith("file:") for name in self.outcomes)


def load_unstable(path):
    """{name: set of outcomes that the stock build has had}"""
    result = {}
    if path and os.path.exists(path):
        for line in pathlib.Path(path).read_text().splitlines():
            if line and not line.startswith("#"):
                name, outcomes, reason = line.split("\t")
                assert reason, f"{path}: no reason for {name}"
                result[name] = set(outcomes.split(","))
    return result


def differences(expected, actual, unstable=()):
    """{name: (expected or None, actual or None)} where the two differ.

    None is a test that one side does not have.  For a test listed as unstable
    any outcome is the same that stock has been seen to give.
    """
    result = {}
    for name in expected.outcomes.keys() | actual.outcomes.keys():
        a, b = expected.outcomes.get(name), actual.outcomes.get(name)
        if a != b and not (name in unstable
                           and (b or "absent") in unstable[name]):
            result[name] = a, b
    return result


def is_crash(name, outcome):
    return outcome == "died" or (name.startswith("file:")
                                 and f"file:{outcome}" in CRASHES)


def file_of(name):
    """The test file of a test's name, or None."""
    if name.startswith("file:"):
        return name[5:]
    return name.partition("::")[0] if "::" in name else None


def shorten(name, file):
    """A test's id without the name of the module that file is."""
    module = file if file.startswith("test.") else f"test.{file}"
    return name.removeprefix(f"{module}.").replace(f"({module}.", "(")
