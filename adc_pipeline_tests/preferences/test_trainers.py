"""Every row of the README's table of formats: its two lines load a configuration, and a tiny model takes a step.

The models are one with a strict chat template, and one that the pipeline has exported, with the template of its walks.
"""

import json
import shutil
from dataclasses import asdict
from functools import partial
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.generation.chat_template import write_chat_template
from adc_pipeline.preferences.baselines import pair_baselines
from adc_pipeline.preferences.card import write_card
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline.walks.files import split_file
from adc_pipeline_tests.docs.pages import ROOT
from adc_pipeline_tests.training.conftest import small_model
from adc_pipeline_tests.training.tiny import LLAMA_SIZE

__all__ = ["small_model"]

pytestmark = pytest.mark.slow

# As strict as Llama's and Mistral's, but for a first message of the assistant's.
TEMPLATE = """
{%- for message in messages -%}
{%- if not loop.first and message.role == messages[loop.index0 - 1].role -%}
{{ raise_exception("Roles must alternate.") }}
{%- endif -%}
<|{{ message.role }}|>{{ message.content }}</s>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
""".strip()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the dataset of a small sample."""
    folder: Path = tmp_path_factory.mktemp("preferences")
    (folder / "corpus").mkdir()
    write_sample(folder / "corpus", conversations=30)
    folders = (folder / "utterances", folder / "ranked")
    read = write_utterances(folder / "corpus", folders[0])
    ranked = write_ranked_replies(*folders)
    out, settings = folder / "preferences", PreferenceSettings(shares=(80, 10, 10), margin="log")
    counts = write_preferences(*folders, out, settings)
    made = [
        Artefact("raw_corpus", folder, "0" * 32, {"corpus": "sample"}),
        Artefact("utterances", folder, "1" * 32, {}, counts={**read}),
        Artefact("ranked_replies", folder, "2" * 32, asdict(RankingSettings()), counts={**ranked}),
    ]
    write_card(out, settings, counts, made[0], made[1], made[2], pair_baselines(out, *folders, settings, Engine()))
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny Llama over bytes, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["</s>", "<pad>", "<|user|>", "<|assistant|>"]
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", additional_special_tokens=special[2:]
    )
    fast.chat_template = TEMPLATE
    config = LlamaConfig(vocab_size=len(alphabet), bos_token_id=None, eos_token_id=0, pad_token_id=1, **LLAMA_SIZE)
    folder = str(tmp_path_factory.mktemp("model"))
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a model as the pipeline registers it: its own tokenizer, markers and chat template."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(small_model, folder)
    (folder / "training.json").write_text(json.dumps({"objective": "mle", "markers": "after", "speakers": "names"}))
    assert write_chat_template(folder)
    return str(folder)


def test_the_front_matter_is_what_the_hub_and_datasets_read(dataset: Path, tmp_path: Path) -> None:
    """Types and numbers of rows are those of the files, and values are of the Hub's vocabulary, as datasets has it."""
    from datasets import DatasetInfo, Features, load_dataset, utils
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(dataset / "README.md")
    assert str(DatasetCard(str(card))) == (dataset / "README.md").read_text()
    infos, files = DatasetInfosDict.from_dataset_card_data(card.data), MetadataConfigs.from_dataset_card_data(card.data)
    assert set(infos) == set(files) == set(CONFIGURATIONS)
    for name in CONFIGURATIONS:
        assert all((dataset / each["path"]).exists() for each in files[name]["data_files"])
        rows = load_dataset(str(dataset), name, cache_dir=str(tmp_path))
        found: DatasetInfo = infos[name]
        assert {split: each.num_examples for split, each in found.splits.items()} == rows.num_rows
        assert (
            found.features
            == rows["train"].features
            == Features.from_arrow_schema(pq.read_schema(dataset / split_file("train", name)))
        )
    resources = Path(utils.__file__).parent / "resources"
    known = {name: json.loads((resources / f"{name}.json").read_text()) for name in ("creators", "size_categories")}
    assert set(card.data.size_categories) <= set(known["size_categories"])
    assert set(card.data.annotations_creators) <= set(known["creators"]["annotations"])
    assert set(card.data.language_creators) <= set(known["creators"]["language"])


def lines_of_the_readme() -> dict[str, list[str]]:
    """Return the two lines of each row of the table, which need what the text above it imports."""
    section = (ROOT / "README.md").read_text().partition("## Train on preferences")[2].partition("\n## ")[0]
    assert "`import trl, trl.experimental.sdft, trl.experimental.tpo`" in section
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if "<br>" in row]
    return {name: [line.strip("`") for line in lines.split("<br>")] for name, lines in rows}


def load_from(dataset: Path, folder: Path, path: str, *given: Any, **options: Any) -> Any:
    """Load a few rows of the dataset instead of those of the README's path."""
    import datasets

    assert path == ".adc/datasets/preferences"
    rows = datasets.load_dataset(str(dataset), *given, cache_dir=str(folder / "cache"), **options)
    if "prompt" not in rows.column_names:
        return rows.select(range(4))
    # Prompts that begin with the user, and with the assistant.
    turns = [len(prompt) for prompt in rows["prompt"]]
    return rows.select([turns.index(1), turns.index(2), turns.index(1), turns.index(2)])


# The name of each row, the model that takes the step, and arguments of its trainer. SDPO takes what SDFT does.
SHORT = {"max_completion_length": 4, "num_generations": 2}
TRAINERS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("DPO", "exported", {}, {}),
    ("a reward model", "exported", {}, {}),
    ("KTO", "model", {}, {}),
    ("SFT", "exported", {}, {}),
    ("TPO", "model", {}, {}),
    ("SDFT", "model", SHORT, {}),
    ("SDPO", "model", SHORT | {"include_environment_feedback": True},
     {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fixture", "arguments", "others"), TRAINERS, ids=[each[0] for each in TRAINERS])
def test_the_two_lines_of_the_readme_take_a_step(
    name: str,
    fixture: str,
    arguments: dict[str, Any],
    others: dict[str, Any],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load, step = lines_of_the_readme().get(name) or [line.replace("sdft", "sdpo").replace("SDFT", "SDPO")
                                                     for line in lines_of_the_readme()["SDFT"]]  # fmt: skip

    # The lines take defaults; a test has no time for three epochs.
    path = step.partition("(")[0].removeprefix("trl.").split(".")
    module = import_module(".".join(["trl", *path[:-1]]))
    trainer, config = getattr(module, path[-1]), getattr(module, path[-1].replace("Trainer", "Config"))
    args = config(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, learning_rate=0.1, report_to=[],
        use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, **arguments,
    )  # fmt: skip
    made: list[Any] = []

    def remembered(**given: Any) -> Any:
        made.append(trainer(**given, args=args, **others))
        made.append([weights.clone() for weights in made[0].model.parameters()])
        return made[0]

    monkeypatch.setattr(module, path[-1], remembered)
    names: dict[str, Any] = {"load_dataset": partial(load_from, dataset, tmp_path)}
    names["MODEL"] = request.getfixturevalue(fixture)
    exec("import trl, trl.experimental.sdft, trl.experimental.sdpo, trl.experimental.tpo", names)
    exec(load, names)
    done = eval(step, names)
    assert done.global_step == 1
    assert isfinite(done.training_loss)
    assert any(not old.equal(new) for old, new in zip(made[1], made[0].model.parameters(), strict=True))


def test_the_scores_of_a_group_train_a_list_wise_loss(dataset: Path, tmp_path: Path) -> None:
    """ListNet (Cao et al. 2007): the cross entropy between the softmax of the scores and that of the model's values."""
    import torch

    load, scores = lines_of_the_readme()["listwise losses"]
    names: dict[str, Any] = {"load_dataset": partial(load_from, dataset, tmp_path)}
    exec(load, names)
    exec(scores, names)
    groups = names["groups"]
    words = [torch.tensor([[float(len(answer["answer"])), answer["answer"].count(" ")] for answer in row["answers"]])
             for row in groups]  # fmt: skip
    weights = torch.zeros(2, requires_grad=True)

    def loss() -> torch.Tensor:
        wanted = [torch.tensor(each, dtype=torch.float).softmax(0) for each in names["scores"]]
        return torch.stack(
            [-(target * (text @ weights).log_softmax(0)).sum() for target, text in zip(wanted, words, strict=False)]
        ).mean()

    before = loss()
    before.backward()
    with torch.no_grad():
        weights -= 1e-5 * weights.grad  # type: ignore[operator]
    assert loss() < before
