"""Open the files and folders that a person names in a setting.

What a name leads to is not trusted: opening a FIFO waits for ever, a device never ends, a link may lead nowhere and a
file may not be readable. Each ends here with one sentence that names the file and the setting. Links are followed.
"""

import codecs
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from adc_pipeline.core.errors import REMEDIES, PipelineError, first_line
from adc_pipeline.core.terminal import printable

# A small JSON file is metadata that is read at once, such as a corpus' name.
SMALL_JSON = 16 << 20

# What transformers reads of a model's folder besides weights and vocabulary.
CONFIGURATIONS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")

# To YAML 1.1, a number that begins with 0 is octal, and one with colons has the base 60, as times have.
OTHER_BASE = re.compile(r"[-+]?(0[0_]*[1-7][0-7_]*|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
# What YAML's errors repeat of a file besides single signs.
REPEATED_BY_YAML = re.compile(r"\b(alias|anchor|tag|handle) ['\"].*", re.DOTALL)
FROM_KERNEL = "is written by the kernel while it is read: give a file on a disk"
KERNEL = (Path("/proc"), Path("/sys"))

KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def named_path(name: str) -> Path:
    """Return a name as a path, with ~ for the home folder; a user that does not exist stays as written."""
    return Path(os.path.expanduser(name))


def check_file(path: Path, setting: str) -> None:
    """Raise PipelineError unless `path`, named by `setting`, is a regular file that can be read."""
    problem = file_problem(path)
    if problem:
        raise PipelineError(f"{path}, which the setting {setting} names, {problem}.")


def check_model_folder(folder: Path, setting: str) -> None:
    """Raise PipelineError unless a model's folder holds regular files, and JSON objects as configurations.

    transformers opens whatever has the name of a file of its own, and asks a configuration for values, whatever it is.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise PipelineError(f"{folder}, which the setting {setting} names, {access_problem(folder, error)}.") from error
    for path in paths:
        if os.path.isdir(path):
            continue
        check_file(path, setting)
        if path.name in CONFIGURATIONS and not isinstance(read_small_json(path, setting), dict):
            raise PipelineError(
                f"{path}, which the setting {setting} names, is no JSON object: copy the whole folder of the model"
                " again."
            )


def refused_by_system(error: OSError) -> str:
    """Return the sentence for a file that the operating system refused."""
    reason = error.strerror or type(error).__name__
    name = os.fsdecode(error.filename)
    if os.path.islink(name) and not os.path.exists(name):
        # As of a folder on a disk that is not mounted, which cannot be made there.
        return printable(f"{name} {access_problem(Path(name), error)}.", kept="")
    if isinstance(error, FileExistsError | NotADirectoryError):
        # Of a file, where a folder is to be made or read.
        return printable(f"{name} is no folder, or lies below a file ({reason}): move that file away.", kept="")
    remedy = REMEDIES.get(error.errno or 0, "correct the path, or give this user access to it")
    return printable(f"{name} cannot be used ({reason}): {remedy}.", kept="")


def file_problem(path: Path) -> str:
    """Return why `path` cannot be read as a regular file and what to do, as the end of a sentence; empty if it can."""
    try:
        found = path.stat()
        mode = found.st_mode
        if stat.S_ISREG(mode):
            # Files of /proc count as regular and have no size; reading some waits for what the kernel writes next.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                return FROM_KERNEL if os.read(handle, 1) and not found.st_size else ""
            finally:
                os.close(handle)
    except BlockingIOError:
        return FROM_KERNEL
    except (OSError, ValueError) as error:
        return access_problem(path, error)
    return kind_problem(mode)


def is_of_kernel(folder: Path) -> bool:
    """Return whether a folder is one of those in which the kernel describes the machine; walks in them have no end."""
    real = folder.resolve()
    return any(real.is_relative_to(place) for place in KERNEL)


def kind_problem(mode: int) -> str:
    """Return what a file of this mode is, as the end of a sentence; empty for a regular one."""
    if stat.S_ISREG(mode):
        return ""
    return f"is {KINDS.get(stat.S_IFMT(mode), 'no file')} and no regular file: give a regular file"


def folder_problem(path: Path) -> str:
    """Return why a folder cannot be at `path`, as the end of a sentence; empty if it is there or can be made."""
    if not os.path.lexists(path) or os.path.isdir(path):
        return ""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return access_problem(path, error)
    return f"is {KINDS.get(stat.S_IFMT(mode), 'a file')} and no folder: name a folder"


def access_problem(path: Path, error: Exception) -> str:
    """Return what an error of the operating system about `path` means, as the end of a sentence."""
    if isinstance(error, PermissionError):
        return "may not be read by this user: change its mode or its owner, or that of a folder on the way to it"
    if os.path.islink(path) and not os.path.exists(path):
        if getattr(error, "errno", None) == errno.ELOOP:
            return "is a link that leads back to itself: remove or correct the link"
        return f"is a link to {os.readlink(path)}, which does not exist: mount what it leads to, or remove the link"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist: correct the path"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror}): correct the path, or check the disk"
    return "is no path: correct it"


def read_small_json(path: Path, setting: str) -> Any:
    """Return the value of a JSON file of at most `SMALL_JSON` bytes; raise PipelineError for any other file."""
    check_file(path, setting)
    with path.open("rb") as file:
        return small_json(file.read(SMALL_JSON + 1), path, setting)


def small_json(content: bytes, path: Path, setting: str) -> Any:
    """Return the value in the first bytes of a small JSON file; PipelineError if it is too large, or no JSON."""
    if len(content) > SMALL_JSON:
        raise PipelineError(
            f"{path}, which the setting {setting} names, is larger than {SMALL_JSON >> 20} MiB, which no file of its"
            " kind is: check what it is."
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"{path}, which the setting {setting} names, is not one whole JSON value: fetch it again."
        ) from error


def read_mapping(path: Path, missing_ok: bool = False) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty one, as is a missing one with `missing_ok`.

    Raise PipelineError for any other file, for a name that stands there twice, of which YAML's reader would drop the
    first, for a number that it reads as another one than is written, and for a link that leads nowhere.
    """
    import yaml

    class Once(yaml.SafeLoader):
        """Reads YAML in which a mapping has each name once."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if twice := [name for place, name in enumerate(names) if name in names[:place]]:
                line = node.start_mark.line + 1
                raise ValueError(f"{twice[0]} stands twice in the mapping that begins in line {line}")
            return super().construct_mapping(node, deep)

        def construct_number(self, node: yaml.ScalarNode) -> int | float:
            construct = self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float
            value: int | float = construct(node)
            if OTHER_BASE.fullmatch(node.value):
                line = node.start_mark.line + 1
                raise ValueError(f"YAML reads {node.value} in line {line} as {value}: write that, or a text in quotes")
            return value

    for kind in ("int", "float"):
        Once.add_constructor(f"tag:yaml.org,2002:{kind}", Once.construct_number)
    if missing_ok and not os.path.lexists(path):
        return {}
    if problem := file_problem(path):
        raise PipelineError(f"{path} {problem}.")
    try:
        if path.stat().st_size > SMALL_JSON:
            raise ValueError(f"it is larger than {SMALL_JSON >> 20} MiB")
        content = path.read_bytes()
        # As editors and shells on Windows write it.
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        # A subclass of the safe loader.
        values = yaml.load(content.decode("utf-16" if utf16 else "utf-8-sig"), Once) or {}
    except yaml.MarkedYAMLError as error:
        # An unquoted password that begins with `*` or `!` is an alias or a tag in YAML, whose name the error repeats.
        found = REPEATED_BY_YAML.sub(r"\1 '...'", ", ".join(filter(None, (error.context, error.problem))))
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PipelineError(f"{path} cannot be read ({found}{line}): give a YAML file.") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PipelineError(f"{path} cannot be read ({first_line(error)}): give a YAML file.") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path} is not a mapping of names to values: write one `name: value` per line.")
    return values


def is_utf8(text: str) -> bool:
    """Return whether a text can be stored; paths hold other bytes as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
