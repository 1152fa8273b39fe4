"""Known answers: evaluations of trained models whose right figures are known.

Two small models are trained, on the sample corpus and on one whose scores are shuffled among siblings, so that no text
tells which of two replies scored higher. About 60 s in all, on one core with other work on it.
"""

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import LlamaConfig

from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.cases.cases import read_cases
from adc_pipeline.evaluation.evaluate import evaluate
from adc_pipeline.evaluation.evaluation import Evaluation
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.scoring.likelihoods import Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.datasets import write_walks
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages
from adc_pipeline_tests.stages import read_utterances

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETTINGS = EvaluationSettings(draws=1000, samples=0, max_groups=8, max_contrasts=0)
# Enough for the answers to be certain: an interval of the preference accuracy is 4 points wide.
CONVERSATIONS = 500
TRAINING = TrainingSettings(
    sequence_length=512, tokens_per_step=512, tokens_per_forward=4096, epochs=3, checkpoint_every=0, validate_every=0
)


@dataclass(frozen=True)
class Trained:
    """A model, its base, the stages that it came from, and its evaluation."""

    model: Path
    base: Path
    stages: Stages
    evaluation: Evaluation


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    """Use one core: models of this size gain nothing from a second one, and lose much where it is busy."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


def shuffle_scores(corpus: Path) -> None:
    """Shuffle the scores among the members of every group of siblings."""
    lines = [json.loads(line) for line in (corpus / "utterances.jsonl").read_text().splitlines()]
    groups: dict[str, list[Any]] = {}
    for line in lines:
        if line["reply_to"] is not None:
            groups.setdefault(line["reply_to"], []).append(line)
    draw = random.Random(0)
    for group in groups.values():
        scores = [line["meta"]["score"] for line in group]
        draw.shuffle(scores)
        for line, score in zip(group, scores, strict=True):
            line["meta"]["score"] = score
    (corpus / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def trained_on(corpus: Path, folder: Path, base: Path | None = None) -> Trained:
    """Fine-tune and evaluate; without a base model prepare one with the corpus' texts."""
    from adc_pipeline.training.loop.train import train
    from adc_pipeline.training.model import prepare_base_model

    stages, model = run_stages(corpus, folder, kind="top-2", shares=(65, 0, 35)), folder / "model"
    if base is None:
        base = folder / "base"
        texts = (text for (text,) in read_utterances(stages.utterances, "text"))
        prepare_base_model(BaseModelSettings(), FORMATS["default"], texts, base)
    train(TrainingJob(TRAINING, stages.dataset, base, model, folder / "work"))
    return Trained(model, base, stages, evaluated(model, base, stages, folder / "evaluation"))


def evaluated(model: Path, base: Path, stages: Stages, out: Path) -> Evaluation:
    """Evaluate; the base model's scores are kept, since every model of these stages needs them."""
    out.mkdir()
    cache = stages.dataset.parent / "scores"
    folders = (stages.dataset, stages.utterances, stages.ranked)
    # The sample has few distinct roots.
    job = EvaluationJob(model, base, *folders, score_cache=cache, exclude_repeated_roots=False)
    return evaluate(job, out, SETTINGS)


@pytest.fixture(scope="module")
def sample_model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("sample")
    (folder / "corpus").mkdir()
    write_sample(folder / "corpus", conversations=CONVERSATIONS)
    return trained_on(folder / "corpus", folder)


@pytest.fixture(scope="module")
def shuffled_model(sample_model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The texts are the same, and so is the base model."""
    folder = tmp_path_factory.mktemp("shuffled")
    (folder / "corpus").mkdir()
    write_sample(folder / "corpus", conversations=CONVERSATIONS)
    shuffle_scores(folder / "corpus")
    return trained_on(folder / "corpus", folder, sample_model.base)


def interval(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_preference_accuracy_is_above_chance_unless_scores_are_shuffled(
    sample_model: Trained, shuffled_model: Trained
) -> None:
    low, _ = interval(sample_model.evaluation.model["preference_accuracy"])
    assert low > 0.55
    low, high = interval(shuffled_model.evaluation.model["preference_accuracy"])
    assert low <= 0.5 <= high
    assert shuffled_model.evaluation.model["preference_accuracy"].conversations > 100
    for trained, certain in ((sample_model, True), (shuffled_model, False)):
        p = trained.evaluation.minus_base["preference_accuracy"].p
        assert p is not None
        assert (p < 0.01) == certain


def test_with_markers_swapped_steering_and_preference_invert(sample_model: Trained, tmp_path: Path) -> None:
    """The same weights with the two markers exchanged."""
    from transformers import AutoModelForCausalLM

    swapped = shutil.copytree(sample_model.model, tmp_path / "swapped")
    tokenizer = MarkerTokenizer.load(swapped)
    ids = [tokenizer.accepted_id, tokenizer.rejected_id]
    model = AutoModelForCausalLM.from_pretrained(swapped)
    for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
        table.data[ids] = table.data[ids[::-1]]
    model.save_pretrained(swapped)
    found = evaluated(swapped, sample_model.base, sample_model.stages, tmp_path / "evaluation")
    for measure in ("steering", "preference_accuracy"):
        assert interval(sample_model.evaluation.model[measure])[0] > 0.5
        assert interval(found.model[measure])[1] < 0.5


class LengthModel(torch.nn.Module):
    """A hand-made causal language model: log P(accepted) − log P(rejected) is 0.1 a byte since the last marker."""

    def __init__(self, tokenizer: MarkerTokenizer) -> None:
        super().__init__()
        self.config = LlamaConfig(max_position_embeddings=4096, vocab_size=len(tokenizer.tokenizer))
        self.device = torch.device("cpu")
        # Byte-level BPE spells a token with one character a byte.
        tokens = tokenizer.tokenizer.convert_ids_to_tokens(list(range(len(tokenizer.tokenizer))))
        self.sizes = torch.tensor([float(len(token)) for token in tokens])
        self.markers = torch.tensor([tokenizer.background_id, tokenizer.rejected_id, tokenizer.accepted_id])
        self.accepted = tokenizer.accepted_id

    def forward(
        self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: torch.Tensor | slice = slice(None)
    ) -> SimpleNamespace:
        bytes_so_far = self.sizes[input_ids[0]].cumsum(0)
        at_markers = torch.where(torch.isin(input_ids[0], self.markers), bytes_so_far, 0)
        logits = torch.zeros(1, input_ids.shape[1], len(self.sizes))
        logits[0, :, self.accepted] = 0.1 * (bytes_so_far - at_markers.cummax(0).values)
        return SimpleNamespace(logits=logits[:, logits_to_keep])


def test_a_model_that_knows_only_length_scores_what_length_alone_scores(
    stages: Stages, tokenizer: "PreTrainedTokenizerBase", tmp_path: Path
) -> None:
    """Without speaker lines a turn is its text; pair by pair, in every reading."""
    dataset = tmp_path / "dataset"
    walks = WalkSettings(shares=(0, 0, 100), speakers="none")
    write_walks("top-2", stages.utterances, stages.ranked, dataset, walks)
    marked = MarkerTokenizer(tokenizer)
    cases = read_cases(dataset, stages.utterances, stages.ranked, "default", "none", SETTINGS, tmp_path / "spill")
    scores = Scorer(LengthModel(marked), marked, SETTINGS).score(cases.queries, cases.ask_text)  # type: ignore[arg-type]
    pairs = cases.pairs
    of_model = measures.preference_accuracy(pairs, scores.log_odds[pairs.better], scores.log_odds[pairs.worse])
    of_length = measures.preference_accuracy(pairs, pairs.better_bytes, pairs.worse_bytes)
    for model, length in zip(of_model, of_length, strict=True):
        assert model.value.tolist() == length.value.tolist()
    assert 0.3 < of_length[0].value.mean() < 0.9
    assert len(of_length[0].value) > 100
