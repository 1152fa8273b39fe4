"""Publish datasets and models to the Hugging Face Hub, each as one commit with a tag.

What is published is the folder of a current version, without the records of its making, which name places and people of
this machine. The card is the folder's own `README.md` with the licence that the person has set.

The Hub stores content by its hash. Files that it has are not sent again, so a second attempt after an interruption
sends what is missing, and where nothing differs there is no commit. Files of the repository that the version does not
have are deleted in the same commit. The token is read from `HF_TOKEN` and from nowhere else, and the server from
`HF_ENDPOINT`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.errors import PipelineError, UnreachableError, first_line, is_network_fault
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import refuse_damaged
from adc_pipeline.core.store.manifests import MAKING, MANIFEST, Artefact, read_making
from adc_pipeline.corpus.privacy.removals import read_removals
from adc_pipeline.generation.registration import REGISTERED
from adc_pipeline.lifecycle.settings import PublishSettings
from adc_pipeline.walks.kinds import KINDS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN, ENDPOINT = "HF_TOKEN", "HF_ENDPOINT"
CARD = "README.md"
# What the Hub makes itself.
KEPT = (".gitattributes",)
# Records of the making, and files that only this store reads.
LEFT_OUT = (MANIFEST, MAKING, REGISTERED, CARD)
MODELS = {kind.model: kind.name for kind in KINDS.values()}
NAMES = {kind.dataset: kind.name for kind in KINDS.values()} | {"preferences": "preferences"} | MODELS


@dataclass(frozen=True)
class Publication:
    """One artefact with the repository, the files and the card that it is published by."""

    made: Artefact
    repo_id: str
    repo_type: str
    license: str
    tag: str
    message: str
    files: Mapping[str, Path]
    card: bytes

    @property
    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file, by its path in the repository."""
        return {CARD: len(self.card)} | {name: path.stat().st_size for name, path in self.files.items()}

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


@dataclass(frozen=True)
class Published:
    """Where a publication is: its commit, and whether this run has made it."""

    url: str
    commit: str
    is_new: bool


def plan(store: Store, settings: PublishSettings) -> list[Publication]:
    """Return what is to be published; PipelineError where a setting is missing or a version must not be published."""
    if not settings.artefacts:
        raise PipelineError(f"The setting artefacts is empty: name what to publish, of {', '.join(NAMES)}.")
    if not settings.license.strip():
        raise PipelineError(
            "The setting license is empty: set the licence that you may publish the texts under, as the Hub names it"
            " (cc-by-4.0, mit, other, …). Nothing is published without."
        )
    if not settings.repo_id or settings.repo_id.count("/") > 1:
        raise PipelineError("The setting repo_id names no repository: set it, such as me/reddit-{name}.")
    if len(set(settings.artefacts)) > 1 and "{name}" not in settings.repo_id:
        raise PipelineError(
            f"The setting repo_id = {settings.repo_id} is one repository for {len(set(settings.artefacts))} artefacts:"
            " write {name} where their names go, such as me/reddit-{name}."
        )
    return [publication(store, name, settings) for name in dict.fromkeys(settings.artefacts)]


def publication(store: Store, name: str, settings: PublishSettings) -> Publication:
    """Return how the current version of an artefact is published."""
    made = store.current(name)
    refuse_damaged(made)
    refuse_removed(store, made)
    files = {
        str(path.relative_to(made.path)): path
        for path in sorted(made.path.rglob("*"))
        if path.is_file() and not is_left_out(path.relative_to(made.path))
    }
    repo_id = settings.repo_id.replace("{name}", f"{NAMES[name]}-model" if name in MODELS else NAMES[name])
    check_repo_id(repo_id)
    return Publication(
        made=made,
        repo_id=repo_id,
        repo_type="model" if name in MODELS else "dataset",
        license=settings.license,
        tag=settings.tag or made.digest[:12],
        message=settings.message or f"{name} {made.digest}",
        files=files,
        card=card(made, settings.license),
    )


def check_repo_id(repo_id: str) -> None:
    """Raise PipelineError for a name that no repository can have."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PipelineError(f"The setting repo_id gives {repo_id} ({first_line(error)}): correct it.") from error


def is_left_out(path: Path) -> bool:
    """Return whether a file of an artefact is not published."""
    return str(path) in LEFT_OUT or any(part.startswith(".") for part in path.parts)


def card(made: Artefact, license: str) -> bytes:
    """Return the artefact's card with the licence in its metadata; a card of the licence alone if there is none."""
    from huggingface_hub import RepoCard

    path = made.path / CARD
    content = (
        path.read_text(encoding="utf-8")
        if path.exists()
        else f"---\nlibrary_name: transformers\n---\n\n# {made.name}\n"
    )
    found = RepoCard(content, ignore_metadata_errors=True)
    for name in ("license_name", "license_link"):
        if license != "other" and name in found.data:
            found.data.pop(name)
    found.data["license"] = license
    return str(found).encode()


def refuse_removed(store: Store, made: Artefact) -> None:
    """Raise PipelineError if a version was built before the removal list was what it is now."""
    removals = read_removals(store.home)
    wanted = removals.digest if removals else None
    for utterances in utterances_of(store, made):
        if read_making(utterances)["outside"].get("removals") != wanted:
            raise PipelineError(
                f"{made.name} {made.digest} was built before the removal list was changed: run the job that builds it,"
                " and publish what that has built."
            )


def utterances_of(store: Store, made: Artefact) -> Iterator[Artefact]:
    """Yield the versions of `utterances` that an artefact was made of; PipelineError if one is no longer there."""
    for name, digest in made.inputs.items():
        if name != "raw_corpus":
            above = store.version(name, digest)
            if name == "utterances":
                yield above
            else:
                yield from utterances_of(store, above)


def warnings(store: Store, found: Publication) -> list[str]:
    """Return what a person should know before texts of people are published."""
    said = []
    for name, digest in {found.made.name: found.made.digest, **found.made.inputs}.items():
        settings = store.version(name, digest).settings
        if name in NAMES and name not in MODELS:
            kept = [each for each in ("speakers", "mentions") if settings.get(each, "names") == "names"]
            said += [f"{name} has names: its setting {each} is names." for each in kept]
    said += [
        f"{found.made.name} may have e-mail addresses, phone numbers and links: the setting replace_personal_data of"
        " utterances is off."
        for utterances in utterances_of(store, found.made)
        if not utterances.settings.get("replace_personal_data")
    ]
    return list(dict.fromkeys(said))


def api() -> "HfApi":
    """Return a client of the server in `HF_ENDPOINT`, with the token of the environment and no other."""
    from huggingface_hub import HfApi

    if not os.environ.get(TOKEN):
        raise PipelineError(f"{TOKEN} is not set: set it to a token of the Hub that may write to the repository.")
    return HfApi(endpoint=os.environ.get(ENDPOINT) or None, token=os.environ[TOKEN])


def push(hub: "HfApi", found: Publication, private: bool, report: Callable[[str], None]) -> Published:
    """Publish an artefact, or do nothing where the repository has it; PipelineError if the Hub refuses."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    where: dict[str, Any] = {"repo_id": found.repo_id, "repo_type": found.repo_type}
    try:
        hub.create_repo(private=private, exist_ok=True, **where)
        before = hub.repo_info(**where).sha
        there = set(hub.list_repo_files(**where)) - set(KEPT)
        report(f"Sending {len(found.sizes)} files ({found.bytes:,} bytes) to {found.repo_id}, but not what is there.")
        commit = hub.create_commit(
            operations=[
                CommitOperationAdd(CARD, found.card),
                *(CommitOperationAdd(name, str(path)) for name, path in found.files.items()),
                *(CommitOperationDelete(name) for name in sorted(there - set(found.sizes))),
            ],
            commit_message=found.message,
            **where,
        )
        tags = {tag.name: tag.target_commit for tag in hub.list_repo_refs(**where).tags}
        if found.tag not in tags:
            hub.create_tag(tag=found.tag, revision=commit.oid, **where)
        elif tags[found.tag] != commit.oid:
            report(f"The tag {found.tag} of {found.repo_id} stays at the commit {tags[found.tag]}: set another `tag`.")
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise PipelineError(
                f"The Hub refuses to write to {found.repo_id} ({status}): set {TOKEN} to a token that may, or correct"
                " the setting repo_id."
            ) from None
        if status in (400, 422):
            raise refused(found, error) from None
        reason = f"HTTP status {status}"
    except JSONDecodeError:
        reason = "the answer is no JSON"
    except ValueError as error:
        # The card's metadata, which the Hub checks first.
        raise refused(found, error) from None
    except Exception as error:
        # An upload that fails raises RuntimeError, from what has failed.
        if not (is_network_fault(error) or isinstance(error, RuntimeError)):
            raise
        reason = first_line(error)
    else:
        return Published(str(commit.commit_url), commit.oid, commit.oid != before)
    raise UnreachableError(
        f"Publishing {found.repo_id} was interrupted ({reason}): run it again, and it sends what is missing."
    )


def refused(found: Publication, error: Exception) -> PipelineError:
    """Return the error for what the Hub does not accept, with its reasons."""
    reasons = " ".join(str(error).split())
    return PipelineError(
        f"The Hub does not accept {found.repo_id} ({reasons}): correct the settings license, tag and repo_id."
    )
