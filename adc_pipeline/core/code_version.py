"""The code version of an asset: a hash of the code that makes it, and of nothing else.

Hashing the bytes of the files that a stage uses is simpler, but a mended typo in a comment then trains every model
again. This module parses the files and hashes their syntax trees.

**What is hashed.** The root modules that the caller names and every module of this package that they import,
transitively, wherever the import stands: also inside a function and under `if TYPE_CHECKING:`. Nothing is run.

- Not part of the version: comments, docstrings, formatting, the place of an import in its block, and the names of
  modules. A reference to a module of this package is replaced by the content of that module.
- Part of the version: everything else, such as constants, SQL strings, default arguments, annotations, and strings
  that people read (error messages, descriptions of settings).
- A data file (a page template) counts by content if it is in the folder of a counted module that has its file name
  as a string constant.
- A module that is started by name (`python -m`) is not imported, so the caller has to name it as a root.

**What is not followed.** A package that imports Dagster declares assets and frames their runs. Its modules count
only where they are named as roots, so that an asset does not depend on other assets' declarations, the code that
frames a run or what is displayed of a result. This module does not count either.

The syntax tree is written out here, because `ast.dump` and bytecode differ between Python versions. Python 3.11, 3.12
and 3.13 give the same version.

**Cost.** Parsing and hashing the modules of all assets takes 0.4 s of processor time, a quarter of the start of the
definitions. The versions are therefore kept in the user's cache folder, with the SHA-256 of all files of the package.
They cannot be stale: a change of any file is another SHA-256. With kept versions only the files' bytes are hashed,
which takes 0.01 s.
"""

import ast
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from adc_pipeline.core.atomic import atomic_file
from adc_pipeline.core.records import checked_fields, parsed
from adc_pipeline.core.user_cache import cache_folder

IMPORTS = (ast.Import, ast.ImportFrom)
# Fields of syntax nodes that follow from the others (`ctx`) or change nothing (the `u` of u"text", type comments).
IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


@cache
def code_version(*modules: str) -> str:
    """Return the first twelve hexadecimal digits of SHA-256 over the code of these modules and what they import.

    `modules` are full dotted names of modules of this package. Raise ValueError if there is no such module.
    """
    return KEPT.version(*modules)


@dataclass(frozen=True)
class Module:
    """What counts of one module: the digest of its code and the modules of the package that it imports, in order."""

    digest: bytes
    imports: tuple[str, ...]
    imports_dagster: bool


class Sources:
    """The source files of one package. Each file is read once."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.files: dict[str, Path] = {}  # The modules by dotted name.
        self.folders: dict[Path, list[str]] = {}  # The names of the files in each folder.
        self.modules: dict[str, Module] = {}
        self.declaring: dict[Path, bool] = {}
        for path, below, names in os.walk(package):
            below[:] = [name for name in below if name != "__pycache__"]
            folder = Path(path)
            self.folders[folder] = names
            for file in (folder / name for name in names if name.endswith(".py")):
                dotted = ".".join(file.relative_to(package.parent).with_suffix("").parts)
                self.files[dotted.removesuffix(".__init__")] = file

    def version(self, *roots: str) -> str:
        """Return the code version of these root modules."""
        # Modules are numbered in the order in which they are first imported. The numbers stand for the names, and
        # circular imports need no special case.
        numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
        digest = sha256()
        reached = list(numbers)
        for name in reached:
            module = self.module(name)
            digest.update(module.digest)
            for target in module.imports:
                if target not in numbers and self.follows(target):
                    numbers[target] = len(numbers)
                    reached.append(target)
                digest.update(b"%d " % numbers.get(target, -1))
        return digest.hexdigest()[:12]

    @cached_property
    def content(self) -> str:
        """SHA-256 over the paths and the contents of all files of the package."""
        digest = sha256()
        for path in sorted(folder / name for folder, names in self.folders.items() for name in names):
            digest.update(os.fsencode(path.relative_to(self.package)) + b"\0" + sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def reached(self, *roots: str) -> list[Path]:
        """Return the files of these root modules and of all modules that they need."""
        names = list(roots)
        for name in names:
            names += [each for each in self.module(name).imports if each not in names and self.follows(each)]
        return [self.files[name] for name in names]

    def follows(self, name: str) -> bool:
        """Return whether an imported module counts: not this one, and none of a package that declares assets."""
        folder = self.files[name].parent
        if folder not in self.declaring:
            # A module that does not have the word cannot import it, and is not parsed for that.
            beside = (
                other for other, file in self.files.items() if file.parent == folder and b"dagster" in file.read_bytes()
            )
            self.declaring[folder] = any(self.module(other).imports_dagster for other in beside)
        return name != __name__ and not self.declaring[folder]

    def module(self, name: str) -> Module:
        """Return a module, read now or before. Raise ValueError if the package has none of this name."""
        if name not in self.modules:
            if name not in self.files:
                raise ValueError(f"There is no module {name} in this package: check the arguments of code_version.")
            self.modules[name] = self.read(name)
        return self.modules[name]

    def read(self, name: str) -> Module:
        file = self.files[name]
        package = name if file.stem == "__init__" else name.rpartition(".")[0]
        code = Code(package, self.files)
        code.write(ast.parse(file.read_bytes()))
        beside = sorted(code.strings.intersection(self.folders[file.parent]))
        data = [file.with_name(each).read_bytes() for each in beside if not each.endswith(".py")]
        contents = [sha256(each).hexdigest() for each in data]
        digest = sha256("\n".join([*code.lines, *contents]).encode()).digest()
        return Module(digest, tuple(code.targets), "dagster" in code.libraries)


@dataclass
class Code:
    """The code of one module, written out without what does not count: see the top of this file."""

    package: str  # Where relative imports start from.
    files: Mapping[str, Path]  # The modules of the package by dotted name.
    lines: list[str] = field(default_factory=list)
    strings: set[str] = field(default_factory=set)  # The string constants, docstrings excluded.
    targets: list[str] = field(default_factory=list)  # The imported modules of the package, in the order of `lines`.
    libraries: set[str] = field(default_factory=set)

    def write(self, node: ast.AST) -> None:
        """Append a node and all below it to `lines`. Empty fields are left out, since newer Pythons have more."""
        lines = self.lines
        kind = type(node)
        lines.append(f"{kind.__name__}(")
        for name in node._fields:
            value = None if name in IGNORED else getattr(node, name)
            if isinstance(value, ast.AST):
                lines.append(name)
                self.write(value)
            elif isinstance(value, list):
                start = len(lines)
                self.write_list(node, value)
                if len(lines) > start:
                    lines.append(f"{name}]")
            elif value is not None:
                # Not `repr`, which depends on the Python version's list of printable characters.
                lines.append(f"{name}={value!a}")
                if kind is ast.Constant and isinstance(value, str):
                    self.strings.add(value)
        lines.append(")")

    def write_list(self, parent: ast.AST, items: list[Any]) -> None:
        """Append the items of a field. Of a block of statements, the imports come first."""
        if items and isinstance(items[0], ast.stmt):
            self.write_imports(items)
        for item in items:
            if not isinstance(item, ast.AST):
                self.lines.append(ascii(item))
            elif not is_skipped(item, parent):
                self.write(item)

    def write_imports(self, block: Iterable[ast.stmt]) -> None:
        """Append the imports of a block, sorted by the names that they bind, and their modules to `targets`."""
        bindings = (binding for item in block if isinstance(item, IMPORTS) for binding in self.bindings(item))
        for local, what, targets in sorted(bindings, key=lambda binding: binding[:2]):
            self.lines.append(f"import {local} {what} {len(targets)}")
            self.targets += targets

    def bindings(self, statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, list[str]]]:
        """Yield for each name that an import binds: the name, what it is, and the modules of this package behind it.

        `from a import b` means the package a and its module b if there is one, else the b in the module a.
        """
        for alias in statement.names:
            local = alias.asname or alias.name
            if isinstance(statement, ast.Import):
                names, what = [alias.name], alias.name
            else:
                base = statement.module or ""
                if statement.level:
                    base = resolve_name("." * statement.level + base, self.package)
                names, what = [base, f"{base}.{alias.name}"], f"{base}.{alias.name}"
            self.libraries.add(names[0].partition(".")[0])
            targets = [name for name in names if name in self.files]
            if targets:
                # A module's name does not count; a name in a module does.
                what = "" if names[-1] in targets else alias.name
            yield local, what, targets


def is_skipped(node: ast.AST, parent: ast.AST) -> bool:
    """Return whether a node is left out: a docstring, or an import, which `write_imports` writes.

    Also the empty string that Python 3.12 adds to the format of a value in an f-string.
    """
    if isinstance(node, ast.Constant):
        return isinstance(parent, ast.JoinedStr) and node.value == ""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, IMPORTS)


class KeptVersions:
    """The code versions of a package, kept in a file of the user's cache folder, one for each place of the package."""

    def __init__(self, sources: Sources, folder: Path) -> None:
        self.sources = sources
        place = sha256(os.fsencode(sources.package)).hexdigest()[:16]
        self.path = folder / f"code-versions-{place}.json"

    @cached_property
    def versions(self) -> dict[str, str]:
        """The kept versions by root modules; empty if the file is missing, damaged or of other sources."""
        with suppress(OSError, ValueError):
            kept = checked_fields(parsed(self.path.read_bytes()), {"content": str, "versions": dict})
            if kept["content"] == self.sources.content:
                return {roots: version for roots, version in kept["versions"].items() if isinstance(version, str)}
        return {}

    def version(self, *roots: str) -> str:
        """Return the code version of these root modules, from the file or computed and then kept there."""
        key = " ".join(roots)
        if key not in self.versions:
            self.versions[key] = self.sources.version(*roots)
            self.write()
        return self.versions[key]

    def write(self) -> None:
        """Write the file. A folder that cannot be written costs the next process the time of hashing."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as partial:
                partial.write_text(json.dumps({"content": self.sources.content, "versions": self.versions}))


SOURCES = Sources(Path(__file__).parents[1])
KEPT = KeptVersions(SOURCES, cache_folder())
