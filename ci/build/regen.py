"""Generated files of CPython: made again from what the series and the overlay change.

Problem: a patch of bytecodes.c would have to carry seven generated files of thousands
of lines, which no reader can check and which apply to one version only.  So patches
contain sources, and the files are generated after the series has been applied, by
CPython's own tools and the python3 at hand (they need no built interpreter).

Only tools whose input was changed are run: their output for unchanged input is what
upstream ships.  `GENERATED` lists all their outputs: lint refuses patches of them.
"""

import re
import sys
from pathlib import Path

from common import Stop, capture

_CASES = "Tools/cases_generator/"
_BYTECODES = "Python/bytecodes.c"
_OPTIMIZER = "Python/optimizer_bytecodes.c"

# output -> (generator, its inputs); CPython's own list is Makefile.pre.in, regen-cases.
CASES = {
    "Include/opcode_ids.h": ("opcode_id_generator.py", [_BYTECODES]),
    "Python/opcode_targets.h": ("target_generator.py", [_BYTECODES]),
    "Include/internal/pycore_uop_ids.h": ("uop_id_generator.py", [_BYTECODES]),
    "Lib/_opcode_metadata.py": ("py_metadata_generator.py", [_BYTECODES]),
    "Python/generated_cases.c.h": ("tier1_generator.py", [_BYTECODES]),
    "Python/executor_cases.c.h": ("tier2_generator.py", [_BYTECODES]),
    "Python/optimizer_cases.c.h": ("optimizer_generator.py", [_OPTIMIZER, _BYTECODES]),
    "Include/internal/pycore_opcode_metadata.h":
        ("opcode_metadata_generator.py", [_BYTECODES]),
    "Include/internal/pycore_uop_metadata.h": ("uop_metadata_generator.py", [_BYTECODES]),
}

GLOBAL_OBJECTS = [
    "Include/internal/pycore_global_objects_fini_generated.h",
    "Include/internal/pycore_global_strings.h",
    "Include/internal/pycore_runtime_init_generated.h",
    "Include/internal/pycore_unicodeobject_generated.h",
]

_OTHERS = [
    "configure", "aclocal.m4", "pyconfig.h.in", "Parser/parser.c",
    "Python/Python-ast.c", "Include/internal/pycore_ast.h",
    "Include/internal/pycore_ast_state.h", "Include/internal/pycore_token.h",
    "Parser/token.c", "Lib/token.py", "Lib/keyword.py", "Objects/typeslots.inc",
    "Python/stdlib_module_names.h", "Programs/test_frozenmain.h",
]


def is_generated(path):
    """Is `path` made by a tool of CPython's?  No patch may contain it."""
    return (path in CASES or path in GLOBAL_OBJECTS or path in _OTHERS
            or re.search(r"(^|/)clinic/[^/]+\.h$", path) is not None
            or re.match(r"Python/frozen_modules/", path) is not None)


def regenerate(tree, changed):
    """Runs the generators whose input is among `changed`, paths in `tree`."""
    tree = Path(tree)
    changed = set(changed)

    for output, (generator, inputs) in CASES.items():
        if changed & set(inputs) or any(p.startswith(_CASES) for p in changed):
            _python(tree, _CASES + generator, "-o", output, *inputs)

    sources = [p for p in sorted(changed)
               if p.endswith((".c", ".h")) and (tree / p).is_file()
               and not is_generated(p)]
    texts = {p: (tree / p).read_text(errors="replace") for p in sources}

    clinics = [p for p in sources if re.search(r"^/\*\[clinic input\]", texts[p], re.M)]
    if clinics:
        _python(tree, "Tools/clinic/clinic.py", *clinics)

    _name_modules(tree, changed)

    if any(re.search(r"_Py_(ID|STR|SINGLETON)\(|_Py_DECLARE_STR\(", text)
           for text in texts.values()) or clinics:
        _python(tree, "Tools/build/generate_global_objects.py")


def _name_modules(tree, changed):
    """Adds modules to the list behind sys.stdlib_module_names.

    Upstream's tool wants a finished build to ask for its builtin modules.
    """
    found = set()
    for path in changed:
        match = (re.fullmatch(r"Lib/(\w+)(?:\.py|/__init__\.py)", path)
                 or re.fullmatch(r"Modules/(_(?!test|xx)\w+)module\.c", path))
        if match:
            found.add(f'"{match[1]}",')
    header = tree / "Python/stdlib_module_names.h"
    begin, names, end = re.fullmatch(r"(.*\{\n)(.*?)(\};\n)", header.read_text(), re.S).groups()
    names = names.splitlines()
    if not found <= set(names):
        lines = sorted(found | set(names))
        header.write_text(begin + "".join(f"{line}\n" for line in lines) + end)


def _python(tree, script, *arguments):
    done = capture([sys.executable, "-B", script, *arguments], cwd=tree, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        raise Stop(f"{script} failed: {lines[-1] if lines else done.returncode}")
