"""cpython/UPSTREAM: the releases of CPython that the series applies to."""

from dataclasses import dataclass, field

from common import OVERLAY, Stop

FILE = OVERLAY / "UPSTREAM"


@dataclass
class Release:
    version: str
    sha256: str = ""
    url: str = ""
    debian: list = field(default_factory=list)  # source package, then suites

    @property
    def tarball(self):
        return f"Python-{self.version}.tar.xz"


def releases():
    """All releases, in the file's order: the first is the default."""
    found = []
    for number, line in enumerate(FILE.read_text().splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        key, values = words[0], words[1:]
        if key == "version" and len(values) == 1:
            found.append(Release(values[0]))
        elif not found or not values or key not in ("sha256", "url", "debian"):
            raise Stop(f"{FILE}:{number}: not understood: {line.strip()}")
        elif key == "debian":
            found[-1].debian = values
        else:
            setattr(found[-1], key, values[0])
    if not found:
        raise Stop(f"{FILE}: names no version")
    return found


def release(version):
    known = releases()
    for candidate in known:
        if candidate.version == version:
            return candidate
    raise Stop(f"CPython {version} is not in cpython/UPSTREAM, which has "
               + ", ".join(r.version for r in known))
