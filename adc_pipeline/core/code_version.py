"""The version of the code that an asset runs: a hash of its stage's source files and of what they import.

Finer than the package's version, so that a change of the evaluation does not call the datasets stale; and wider
than the stage's folder, so that a change of what a stage only uses, such as the code that a registered model is
served by, does. The imports are read from the files, also those inside functions, without running anything:
0.5 s for all stages, on two busy cores.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# What stands around the stages and decides nothing that they make: another stage's declarations, what Dagster is
# told, and what is shown of a result.
AROUND = {*(PACKAGE / "defs").glob("*.py"), PACKAGE / "definitions.py", PACKAGE / "core" / "code_version.py"}


@cache
def code_version(*modules: str) -> str:
    """The first twelve hexadecimal digits of SHA-256 over a stage's files and those of ours that they import."""
    digest = hashlib.sha256()
    for path in sorted(files_of_stage(modules)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def files_of_stage(modules: tuple[str, ...]) -> set[Path]:
    """The files of a stage's folder, page templates included, and what they import of this package."""
    found = {PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py") for name in modules}
    left = list(found)
    while left:
        for path in imported(left.pop()):
            if path not in found and path not in AROUND:
                found.add(path)
                left.append(path)
    return found


@cache
def imported(path: Path) -> frozenset[Path]:
    """The files of this package that a file imports, wherever in it."""
    if path.suffix != ".py":
        return frozenset()
    names = {name for node in ast.walk(ast.parse(path.read_bytes())) for name in named(node)}
    files = (PACKAGE.parent.joinpath(*name.split(".")) for name in names if name.split(".")[0] == PACKAGE.name)
    both = (file for place in files for file in (place.with_suffix(".py"), place / "__init__.py"))
    return frozenset(file for file in both if file.is_file())


def named(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement may name: `from a import b` means a, and a.b if there is such."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
