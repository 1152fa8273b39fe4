"""Publishing to a server on this machine, with failures in the middle, and loading from it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adc_pipeline.cli.run import run_job
from adc_pipeline.core.errors import PipelineError, UnreachableError
from adc_pipeline.core.store.artefacts import Store
from adc_pipeline.core.store.content import content_digest, scan
from adc_pipeline.core.store.manifests import Artefact, write_making
from adc_pipeline.corpus.privacy.removals import FILE, read_removals
from adc_pipeline.lifecycle import publishing
from adc_pipeline.lifecycle.settings import PublishSettings
from adc_pipeline_tests.publishing.hub import Hub, serving

WANTED = PublishSettings(artefacts=("top_2", "top_2_model"), repo_id="me/{name}", license="cc-by-4.0", dry_run=False)
CARD = """---
license: other
license_name: that-of-the-source
pretty_name: top-2 walks
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-00000-of-00001.parquet
---

# Walks
"""


def put(store: Store, name: str, files: dict[str, bytes], inputs: dict[str, str]) -> Artefact:
    with store.aside(name) as folder:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        found = scan(folder)
        removals = read_removals(store.home)
        made = Artefact(name, folder, content_digest(found, ("README.md",)), inputs=inputs, files=found)
        outside = {"removals": removals.digest} if removals else {}
        write_making(made, {"run": "r", "address": "http://private/", "outside": outside})
        return store.put(folder, made)


def parquet(rows: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"a walk {number}<accepted>" for number in range(rows)]}), sink)
    return bytes(sink.getvalue())


def build(home: Path, rows: int = 3) -> Store:
    """Put a dataset and a model into a store; the model's files are those of a tiny one."""
    store = Store(home)
    utterances = put(store, "utterances", {"utterances-00000.parquet": b"texts"}, {"raw_corpus": "0" * 32})
    files = {"data/train-00000-of-00001.parquet": parquet(rows), "README.md": CARD.encode()}
    walks = put(store, "top_2", files, {"utterances": utterances.digest})
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 8, "n_head": 1,
              "vocab_size": 16, "n_positions": 8, "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
    model = {"config.json": json.dumps(config).encode(), "model.safetensors": weights(), "registered.json": b"{}"}
    put(store, "top_2_model", model, {"top_2": walks.digest})
    return store


def weights() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (16, 8),
        "wpe.weight": (8, 8),
        "ln_f.weight": (8,),
        "ln_f.bias": (8,),
    }
    for name, shape in {"ln_1": (8,), "ln_2": (8,)}.items():
        shapes |= {f"h.0.{name}.weight": shape, f"h.0.{name}.bias": shape}
    linear = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}
    for name, (rows, columns) in linear.items():
        shapes |= {f"h.0.{name}.weight": (rows, columns), f"h.0.{name}.bias": (columns,)}
    return save({f"transformer.{name}": np.full(shape, 0.5, "float32") for name, shape in shapes.items()})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        # The server has large files by the older protocol, as many mirrors do.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        # Waits between attempts.
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        yield hub


def push_all(store: Store, settings: PublishSettings = WANTED) -> list[publishing.Published]:
    hub = publishing.api()
    return [publishing.push(hub, each, settings.private, print) for each in publishing.plan(store, settings)]


def test_each_artefact_is_one_commit_with_a_tag_and_a_second_push_sends_nothing(tmp_path: Path, hub: Hub) -> None:
    store = build(tmp_path)
    assert all(each.is_new for each in push_all(store))
    walks, model = hub.repos["dataset", "me/top-2"], hub.repos["model", "me/top-2-model"]
    for repo, made in ((walks, store.current("top_2")), (model, store.current("top_2_model"))):
        assert repo.private
        assert repo.messages == [f"{made.name} {made.digest}"]
        assert repo.tags == {made.digest[:12]: repo.commits[-1][0]}
    files = walks.commits[-1][1]
    assert set(files) == {"README.md", "data/train-00000-of-00001.parquet"}
    assert set(model.commits[-1][1]) == {"README.md", "config.json", "model.safetensors"}
    card = files["README.md"].decode()
    assert "license: cc-by-4.0" in card
    assert "license_name" not in card
    assert "# Walks" in card
    uploads = hub.uploads()
    assert not any(each.is_new for each in push_all(store))
    assert hub.uploads() == uploads
    assert len(walks.commits) == len(model.commits) == 2


@pytest.mark.slow
def test_a_changed_dataset_sends_only_what_differs_and_deletes_what_is_gone(tmp_path: Path, hub: Hub) -> None:
    push_all(build(tmp_path))
    repo = hub.repos["dataset", "me/top-2"]
    repo.commits[-1][1]["old.parquet"] = b"old"
    sent = len(hub.uploads())
    push_all(build(tmp_path, rows=4))
    assert len(hub.uploads()) == sent + 1
    assert set(repo.commits[-1][1]) == {"README.md", "data/train-00000-of-00001.parquet"}
    assert len(repo.tags) == 2


# Of the model, since the dataset has been published by then.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "part", "sent_before"),
    [
        ("POST", "/api/models/me/top-2-model/preupload", 1),
        ("POST", "top-2-model.git/info/lfs", 1),
        ("PUT", "/large/", 0),
        ("POST", "/api/models/me/top-2-model/commit", 2),
        ("POST", "/api/models/me/top-2-model/tag", 2),
    ],
)
def test_an_interrupted_push_goes_on_where_it_was(
    tmp_path: Path, hub: Hub, method: str, part: str, sent_before: int
) -> None:
    store = build(tmp_path)
    hub.fail = [(method, part, 99)]
    with pytest.raises(UnreachableError, match="run it again, and it sends what is missing"):
        push_all(store)
    assert len(hub.large) == sent_before
    hub.fail, hub.requests = [], []
    push_all(store)
    assert len(hub.uploads()) == 2 - sent_before
    for kind, name in (("dataset", "me/top-2"), ("model", "me/top-2-model")):
        repo = hub.repos[kind, name]
        assert len(repo.commits) == 2
        assert list(repo.tags.values()) == [repo.commits[-1][0]]


def test_the_token_comes_from_the_environment_and_is_in_no_message(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.refuse = True
    with pytest.raises(PipelineError, match=r"refuses to write to me/top-2 \(403\)") as caught:
        push_all(build(tmp_path))
    assert hub.token not in f"{caught.value}{''.join(capfd.readouterr())}"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PipelineError, match="HF_TOKEN is not set"):
        publishing.api()


@pytest.mark.slow
def test_the_job_lists_by_default_publishes_if_told_to_and_keeps_no_token(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ADC_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", "")
    store, file, shown = build(home), tmp_path / "publish.yaml", ""

    def run(**settings: Any) -> tuple[int, str]:
        """Run the job; return its exit status and its log."""
        nonlocal shown
        config = {"artefacts": ["top_2", "top_2_model"], "repo_id": "me/{name}", **settings}
        file.write_text(yaml.safe_dump({"ops": {"publish_artefacts": {"config": config}}}))
        status = run_job(["publish"], str(file))
        shown += "".join(capfd.readouterr())
        return status, (home / "logs" / "publish.log").read_text()

    assert run()[0] == 1
    assert "The setting license is empty" in shown
    status, log = run(license="cc-by-4.0")
    assert status == 0
    assert "Nothing is published, since `dry_run` is true" in log
    made = store.current("top_2")
    assert f"top_2 {made.digest} -> dataset me/top-2, tag {made.digest[:12]}, licence cc-by-4.0: 2 files" in log
    assert f"data/train-00000-of-00001.parquet ({len(parquet(3)):,} bytes)" in log
    assert "its setting speakers is names" in log
    assert hub.requests == []

    hub.fail = [("PUT", "/large/", 99)]
    assert run(license="cc-by-4.0", dry_run=False)[0] == 1
    assert "run it again, and it sends what is missing" in shown
    hub.fail = []
    assert run(license="cc-by-4.0", dry_run=False)[0] == 0
    repo, sent = hub.repos["model", "me/top-2-model"], hub.uploads()
    assert len(repo.commits) == 2
    status, log = run(license="cc-by-4.0", dry_run=False)
    assert status == 0
    assert "me/top-2-model unchanged, nothing was sent: " in log
    assert (len(repo.commits), hub.uploads()) == (2, sent)

    assert len(list((home / "dagster").rglob("*.db"))) > 6
    assert hub.token not in shown
    assert not [path for path in home.rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (PublishSettings(), "artefacts is empty"),
        (PublishSettings(artefacts=("top_2",), repo_id="me/x"), "license is empty"),
        (PublishSettings(artefacts=("top_2",), license="mit"), "repo_id names no repository"),
        (PublishSettings(artefacts=("top_2", "preferences"), license="mit", repo_id="me/x"), "write {name}"),
        (PublishSettings(artefacts=("preferences",), license="mit", repo_id="me/x"), "There is no preferences"),
        (PublishSettings(artefacts=("top_2",), license="mit", repo_id="me/my {name}"), "gives me/my top-2 "),
    ],
)
def test_what_is_missing_is_refused_before_anything_is_sent(
    tmp_path: Path, settings: PublishSettings, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        publishing.plan(build(tmp_path), settings)


def test_a_licence_that_the_hub_does_not_know_is_refused(tmp_path: Path, hub: Hub) -> None:
    sentence = r"does not accept me/top-2 \(Invalid metadata in README.md. - \"license\" must be one of .*, not free"
    with pytest.raises(PipelineError, match=sentence):
        push_all(build(tmp_path), replace(WANTED, license="free for all"))
    assert not hub.uploads()


def test_what_was_built_before_a_removal_is_refused(tmp_path: Path) -> None:
    store = build(tmp_path)
    (tmp_path / FILE).write_text("speaker ann\n")
    with pytest.raises(PipelineError, match="before the removal list was changed"):
        publishing.plan(store, WANTED)
    assert publishing.plan(build(tmp_path), WANTED)


def test_names_and_personal_data_are_pointed_out(tmp_path: Path) -> None:
    store = build(tmp_path)
    found = publishing.warnings(store, publishing.plan(store, WANTED)[0])
    assert len(found) == 3


LOAD = """
import sys
import datasets, transformers
walks = datasets.load_dataset("me/top-2", revision=sys.argv[1])
print(walks["train"].num_rows, walks["train"][0]["text"])
model = transformers.AutoModelForCausalLM.from_pretrained("me/top-2-model")
print(sum(each.numel() for each in model.parameters()))
"""


@pytest.mark.slow
def test_the_way_back(tmp_path: Path, hub: Hub) -> None:
    store = build(tmp_path / "home")
    push_all(store)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", LOAD, store.current("top_2").digest[:12]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["3 a walk 0<accepted>", "1080"]
