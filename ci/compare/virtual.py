"""What of CPython's suite runs with every thread virtual: ci/expected/virtual.txt.

    FILE                                    a test file, or a package of them
    name TAB outcome[,outcome...] TAB reason    as in unstable.txt
"""

import pathlib

from record import file_of


class Virtual:
    def __init__(self, files, different):
        self.files = files              # names of files and packages
        self.different = different      # {test: outcomes that are right as well}

    @classmethod
    def load(cls, path):
        files, different = [], {}
        for line in pathlib.Path(path).read_text().splitlines():
            if not line or line.startswith("#"):
                continue
            name, *rest = line.split("\t")
            if rest:
                outcomes, reason = rest
                assert reason, f"{path}: no reason for {name}"
                different[name] = set(outcomes.split(","))
            else:
                files.append(name)
        return cls(files, different)

    def choose(self, record):
        """The files of a record that are to be run, as regrtest names them."""
        known = {file_of(name) for name in record.outcomes} - {None}
        chosen = []
        for name in self.files:
            found = [file for file in sorted(known)
                     if file == name or file.startswith(f"test.{name}.")]
            assert found, f"{name}: no such file in the recorded result"
            chosen += found
        return chosen
