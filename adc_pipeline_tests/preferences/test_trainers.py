"""Every configuration is loaded into the trainer that it is for and takes a step there, on a tiny model.

The two lines of each trainer stand in the README's table of formats.
"""

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.core.artefacts import Artefact
from adc_pipeline.corpus.sample import write_sample
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.preferences.card import write_card
from adc_pipeline.preferences.datasets import write_preferences
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.ranking.ranked_replies import write_ranked_replies
from adc_pipeline.ranking.settings import RankingSettings
from adc_pipeline_tests.training.tiny import LLAMA_SIZE

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
    read = write_utterances(folder / "corpus", folder / "utterances")
    ranked = write_ranked_replies(folder / "utterances", folder / "ranked")
    out, settings = folder / "preferences", PreferenceSettings(shares=(80, 10, 10), margin="log")
    counts = write_preferences(folder / "utterances", folder / "ranked", out, settings)
    made = [
        Artefact("raw_corpus", folder, "0" * 32, {"corpus": "sample"}),
        Artefact("utterances", folder, "1" * 32, {}, counts={**read}),
        Artefact("ranked_replies", folder, "2" * 32, asdict(RankingSettings()), counts={**ranked}),
    ]
    write_card(out, settings, counts, *made)
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


def trainer_of(name: str) -> tuple[str, Any, Any, dict[str, Any], dict[str, Any]]:
    """Return the configuration that a trainer of trl takes, its class, that of its arguments, and what it needs."""
    import trl
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer
    from trl.experimental.tpo import TPOConfig, TPOTrainer

    short = {"max_completion_length": 4, "num_generations": 2}
    feedback = {"include_environment_feedback": True}
    reward = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    return {
        "DPO": ("pairs", trl.DPOTrainer, trl.DPOConfig, {}, {}),
        "Reward": ("pairs", trl.RewardTrainer, trl.RewardConfig, {}, {}),
        "KTO": ("verdicts", trl.KTOTrainer, trl.KTOConfig, {}, {}),
        "SFT": ("messages", trl.SFTTrainer, trl.SFTConfig, {}, {}),
        "TPO": ("triples", TPOTrainer, TPOConfig, {}, {}),
        "SDFT": ("privileged", SDFTTrainer, SDFTConfig, short, {}),
        "SDPO": ("privileged", SDPOTrainer, SDPOConfig, short | feedback, reward),
    }[name]


@pytest.mark.parametrize("name", ["DPO", "Reward", "KTO", "SFT", "TPO", "SDFT", "SDPO"])
def test_a_configuration_takes_a_step_in_its_trainer(
    name: str, dataset: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    configuration, trainer, arguments, settings, others = trainer_of(name)
    rows = load_dataset(str(dataset), configuration, split="train", cache_dir=str(tmp_path / "cache")).select(range(4))
    made = trainer(
        model=model,
        args=arguments(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, learning_rate=0.1, report_to=[],
            use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True, **settings,
        ),
        train_dataset=rows,
        **others,
    )  # fmt: skip
    before = [weights.clone() for weights in made.model.parameters()]
    done = made.train()
    assert done.global_step == 1
    assert isfinite(done.training_loss)
    assert any(not old.equal(new) for old, new in zip(before, made.model.parameters(), strict=True))
