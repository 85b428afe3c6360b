"""A pytest plugin: the outcome of every test, in a record (record.py).

    pytest -p pytest_record --record FILE ...

The file is appended to test by test, in recorder.py's form, so that a process
that dies leaves what it had, and the name of the test that it died in.
"""

import os

RANK = {"ok": 0, "xfail": 1, "skip": 2, "uxpass": 3, "fail": 4, "error": 5}


def pytest_addoption(parser):
    parser.addoption("--record", help="append the outcome of each test here")


def pytest_configure(config):
    path = config.getoption("record")
    if path:
        config.pluginmanager.register(Recorder(path))


class Recorder:
    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.pid = os.getpid()
        self.outcome = {}

    def put(self, kind, name):
        if os.getpid() == self.pid:     # not in a child that a test has forked
            # ids hold the text of parameters, which may hold anything
            name = name.replace("\n", "\\n").replace("\t", "\\t")
            with open(self.path, "a", encoding="utf-8",
                      errors="backslashreplace") as file:
                file.write(f"{kind}\t{name}\n")

    def pytest_collectreport(self, report):
        if report.failed:
            self.put("error", report.nodeid)
        elif report.skipped:
            self.put("skip", report.nodeid)

    def pytest_runtest_logstart(self, nodeid):
        self.outcome[nodeid] = "ok"
        self.put(">", nodeid)

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            kind = "xfail" if hasattr(report, "wasxfail") else "skip"
        elif report.failed:
            kind = "fail" if report.when == "call" else "error"
        else:
            kind = "uxpass" if hasattr(report, "wasxfail") else "ok"
        if RANK[kind] > RANK[self.outcome[report.nodeid]]:
            self.outcome[report.nodeid] = kind

    def pytest_runtest_logfinish(self, nodeid):
        self.put(self.outcome.pop(nodeid), nodeid)
