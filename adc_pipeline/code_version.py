"""The version of the code that an asset runs: a hash of its stage's own source files.

Finer than the package's version, so that a change of the evaluation does not call the datasets stale.
"""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_version(stage: str) -> str:
    """The first twelve hexadecimal digits of SHA-256 over the Python files of a stage's folder."""
    digest = hashlib.sha256()
    for path in sorted((PACKAGE / stage).rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
