"""What each objective makes tokens count, by hand and on the sample corpus, and what a model learns by it."""

import itertools
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.loop import devices
from adc_pipeline.training.loop.checkpoint import fingerprint
from adc_pipeline.training.loop.interval import PartLosses
from adc_pipeline.training.loop.run import accumulate_gradients, totals
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.objectives.losses import TokenLosses, weighted_loss
from adc_pipeline.training.objectives.rewards import advantages, rewards
from adc_pipeline.training.objectives.weights import WEIGHTS, TurnWeights
from adc_pipeline.training.rows.batches import NOTHING, Batch
from adc_pipeline.training.rows.data import PackedSplit
from adc_pipeline.training.rows.packing import cut_into_pieces, divide
from adc_pipeline.training.settings import (
    MARKERS_FIRST,
    PREFERENCES,
    BaseModelSettings,
    Objective,
    TrainingJob,
    TrainingSettings,
)
from adc_pipeline.training.texts.arrangement import arrangement
from adc_pipeline.training.texts.dataset import (
    ACCEPTED,
    REJECTED,
    TokenizedSplit,
    load_split,
    read_walks,
    tokenize_split,
)
from adc_pipeline.training.texts.layout import segments, sibling_groups
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.evaluation.conftest import run_stages
from adc_pipeline_tests.training.test_packing import split_of
from adc_pipeline_tests.training.walks import walk, write_dataset

SETTINGS = TrainingSettings(
    sequence_length=128, tokens_per_step=512, max_steps=60, log_every=10, checkpoint_every=0, learning_rate=1e-2
)


SPELT = {"a": "accepted", "r": "rejected"}


def packed_split(tokens: Path, settings: TrainingSettings) -> PackedSplit:
    """Rows that are kept apart by their positions."""
    split = load_split(tokens)
    pieces, weights = cut_into_pieces(split, settings.sequence_length), WEIGHTS[settings.objective](split, settings)
    return PackedSplit(split, pieces, settings, 1, "positions", turn_weights=weights)


def weights_of(objective: Objective, split: TokenizedSplit, **settings: Any) -> TurnWeights:
    found = WEIGHTS[objective](split, TrainingSettings(objective=objective, **settings))
    assert found is not None
    assert found.text.dtype == found.controls.dtype == np.float32
    return found


def scored(*walks: list[tuple[str, int]]) -> TokenizedSplit:
    """A split of walks whose turns have these verdicts (`a` or `r`) and scores, and two tokens each."""
    split = split_of([[2] * (len(turns) + 1) for turns in walks])
    every = [turn for turns in walks for turn in turns]
    accepted = np.array([verdict == "a" for verdict, _ in every], dtype=bool)
    group = [number for turns in walks for number in sibling_groups([{"verdict": SPELT[one]} for one, _ in turns])]
    score = np.array([score for _, score in every], dtype=np.int64)
    return replace(split, accepted=accepted, score=score, group=np.array(group, dtype=np.int32))


# --- By hand ------------------------------------------------------------------------------------------

SPLIT = scored([("r", 0), ("a", 3)], [("a", 0), ("r", -3), ("r", 3), ("a", 3)])


@pytest.mark.parametrize("objective", ["mle", "filtering", "conditional", "quantiles"])
def test_every_token_counts(objective: Objective) -> None:
    assert WEIGHTS[objective](SPLIT, SETTINGS) is None


def test_only_accepted_text_counts() -> None:
    found = weights_of("accepted-only", SPLIT)
    assert found.text.tolist() == [0, 1, 1, 0, 0, 1]
    assert found.controls.tolist() == [1] * 6
    assert found.unlikely is None


def test_rejected_text_becomes_unlikely() -> None:
    found = weights_of("unlikelihood", SPLIT, alpha=0.25)
    assert found.text.tolist() == [0.25, 1, 1, 0.25, 0.25, 1]
    assert found.controls.tolist() == [1] * 6
    assert found.unlikely is not None
    assert found.unlikely.tolist() == [True, False, False, True, True, False]


def test_rewards_by_hand() -> None:
    # log1p gives 0, 1 and 0 and -1, 1, 1 in units of log 4; the last three have mean 1/3 and variance 8/9.
    expected = [-1, 1, 0, -math.sqrt(2), math.sqrt(1 / 2), math.sqrt(1 / 2)]
    assert rewards(SPLIT).tolist() == pytest.approx(expected)
    found = weights_of("rwr", SPLIT, beta=2.0, max_weight=1.5)
    assert found.text.tolist() == pytest.approx([min(math.exp(reward / 2), 1.5) for reward in expected])
    assert found.controls.tolist() == [1] * 6


def test_advantages_by_hand() -> None:
    # Siblings: the first walk's two; in the second the last three, and nobody known for the first. Over the five turns
    # with siblings the mean square is (1 + 1 + 4 + 1 + 1) / 5.
    expected = [value / math.sqrt(8 / 5) for value in (-1, 1, 0, -2, 1, 1)]
    assert advantages(SPLIT).tolist() == pytest.approx(expected)
    found = weights_of("awr", SPLIT, max_weight=2.0)
    assert found.text.tolist() == pytest.approx([min(math.exp(value), 2.0) for value in expected])
    assert found.controls.tolist() == [1] * 6


def test_better_turns_alone_count() -> None:
    found = weights_of("a-lol", SPLIT, max_weight=0.7)
    assert found.text.tolist() == pytest.approx([0, 0.7, 0, 0, 0.7, 0.7])
    assert weights_of("a-lol", SPLIT).text.tolist() == pytest.approx(np.maximum(advantages(SPLIT), 0))
    assert found.controls.tolist() == [1] * 6
    assert found.per_token


def test_hindsight_learns_accepted_turns_and_no_word(small_model: Path, tmp_path: Path) -> None:
    """The rows of two walks, one of them cut: which tokens carry loss."""
    tokenizer = MarkerTokenizer.load(small_model)
    said = [("ann", "one two three", "rejected"), ("bo", "four", "accepted"), ("cy", "five six", "rejected")]
    dataset = write_dataset(tmp_path / "d", train=[walk("bo\ntitle\ntext", said), walk("b", said * 3)])
    settings = TrainingSettings(objective="hindsight", sequence_length=64, tokens_per_step=64)
    tokenize_split(tokenizer, dataset, "train", tmp_path / "tokens", arrangement(settings))
    packed = packed_split(tmp_path / "tokens", settings)
    assert packed.pieces.counts["walks_cut"]
    found: dict[str, set[float]] = {}
    for batch in packed.passes(packed.order.rows(0, packed.order.rows_per_epoch)):
        for places, weights in zip(batch.targets, batch.weights, strict=True):
            # Words and texts of the rows, cut at the markers, with the weights of their tokens.
            ends = [*np.flatnonzero(np.isin(places, [*tokenizer.marker_ids, *tokenizer.eos_ids])), len(places)]
            assert set(weights[ends[:-1]]) <= {0, 1}
            for begin, end in itertools.pairwise(ends):
                text, own = tokenizer.decode(places[begin + 1 : end]), weights[begin + 1 : end]
                for words in ("Good: ", "Bad: "):
                    if text.startswith(words) and places[begin] == tokenizer.accepted_id:
                        size = len(tokenizer.ids([words])[0])
                        assert not own[:size].any()
                        found.setdefault(words, set()).update(own[size:])
    assert found["Bad: "] == {0}
    assert 1 in found["Good: "]


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "hindsight", "markers": "neutral"},
        {"objective": "quantiles", "markers": "stripped"},
        {"objective": "quantiles", "verdicts": "shuffled"},
    ],
)
def test_ablations_of_what_an_objective_learns_from_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match="change one of the two"):
        TrainingSettings(**wrong)


@pytest.mark.parametrize("objective", ["rwr", "awr"])
def test_scores_that_are_all_the_same_make_it_mle(objective: Objective) -> None:
    # Three equal values have a mean that differs from them in the last bit.
    assert weights_of(objective, scored([("r", 7), ("r", 7), ("a", 7)])).text.tolist() == [1, 1, 1]
    assert weights_of(objective, scored([("r", 6), ("a", 6)], [("r", 2), ("a", 9)])).text.tolist()[:2] == [1, 1]


@pytest.mark.parametrize("objective", ["rwr", "awr"])
def test_a_turn_without_siblings_counts_1(objective: Objective) -> None:
    assert weights_of(objective, scored([("a", 7)], [("a", 500), ("a", -3)])).text.tolist() == [1, 1, 1]
    # The next turn replies to the accepted one and is no sibling of it; another walk's turns are none either.
    assert weights_of(objective, scored([("a", 900), ("r", 2), ("a", 5)], [("r", 40)])).text[[0, 3]].tolist() == [1, 1]


@pytest.mark.parametrize("objective", ["rwr", "awr"])
def test_a_popular_conversation_counts_as_any_other(objective: Objective) -> None:
    """A factor in the (large) scores of a conversation, for its audience, does not change what its turns count."""
    found = weights_of(objective, scored([("r", 10**6), ("a", 10**7)], [("r", 10**9), ("a", 10**10)]))
    assert found.text[:2].tolist() == pytest.approx(found.text[2:].tolist(), rel=1e-5)


def test_no_score_is_too_large_to_weigh() -> None:
    found = weights_of("rwr", scored([("r", -(2**62)), ("a", 2**62)]), beta=1e-3, max_weight=20.0)
    assert found.text.tolist() == pytest.approx([0, 20])


turn = st.tuples(st.sampled_from("ar"), st.integers(-(10**6), 10**6))


@given(walks=st.lists(st.lists(turn, min_size=1, max_size=6), min_size=1, max_size=6))
def test_rewards_and_advantages_are_what_a_plain_loop_finds(walks: list[list[tuple[str, int]]]) -> None:
    found = compared([[(score, verdict == "a") for verdict, score in turns] for turns in walks])
    split = scored(*walks)
    assert rewards(split).tolist() == pytest.approx(found["rwr"], abs=1e-6)
    assert advantages(split).tolist() == pytest.approx(found["awr"], abs=1e-6)


def compared(walks: list[list[tuple[int, bool]]]) -> dict[str, list[float]]:
    """The rewards and the advantages of turns (score, accepted), by a plain loop over groups of siblings."""
    standing: list[float] = []
    better: list[float] = []
    have_siblings: list[bool] = []
    for turns in walks:
        group: list[float] = []
        for number, (score, accepted) in enumerate(turns):
            group.append(math.copysign(math.log(1 + abs(score)), score))
            if accepted or number + 1 == len(turns):
                for place, own in enumerate(group):
                    others = group[:place] + group[place + 1 :]
                    alike = min(group) == max(group)
                    standing.append(0.0 if alike else (own - statistics.fmean(group)) / statistics.pstdev(group))
                    better.append(0.0 if alike else own - statistics.fmean(others))
                    have_siblings.append(bool(others))
                group = []
    scale = math.sqrt(sum(value**2 for value in better) / max(1, sum(have_siblings)))
    return {"rwr": standing, "awr": [value / scale if scale else 0.0 for value in better]}


# --- From walks to gradients --------------------------------------------------------------------------


class Uniform(torch.nn.Module):
    """A model that finds every token equally likely, and keeps its logits."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.logits: list[torch.Tensor] = []

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        self.logits.append(torch.zeros(*input_ids.shape, self.vocabulary, device=input_ids.device, requires_grad=True))
        return SimpleNamespace(logits=self.logits[-1])

    def pulls(self, batches: list[Batch]) -> list[np.ndarray]:
        """The weight that each predicted token of each row had in the gradients: -(1 - p) * weight at its logit."""
        rows = []
        for batch, logits in zip(batches, self.logits, strict=True):
            assert logits.grad is not None
            own = logits.grad.cpu().numpy()[*np.indices(batch.targets.shape), batch.targets]
            weights = own / (1 / self.vocabulary - 1)
            rows += [weight[parts != NOTHING] for weight, parts in zip(weights, batch.parts, strict=True)]
        return rows


@pytest.mark.fast_first
@pytest.mark.parametrize("verdicts", ["true", "shuffled"])
@pytest.mark.parametrize("objective", ["rwr", "awr", "accepted-only"])
def test_tokens_pull_by_their_weights_whatever_shares_the_step(
    objective: Objective, verdicts: Any, small_model: Path, tmp_path: Path
) -> None:
    """One walk a step or all of them: a token of `rwr` and `awr` has weight / tokens, where markers have weight 1."""
    of_turns: list[list[tuple[str, int]]] = [
        [("r", 2), ("a", 90), ("a", 5)],
        [("a", 40)],
        [("r", 1), ("r", 7), ("a", 7), ("r", -3), ("a", 3000)],
    ]
    records = []
    for number, turns in enumerate(of_turns):
        said = [("ann", "a reply of its own " * (1 + place % 2), SPELT[one]) for place, (one, _) in enumerate(turns)]
        record = walk("bo\ntitle\ntext", said, f"c{number}")
        for kept, (_, score) in zip(record["turns"], turns, strict=True):
            kept["score"] = score
        records.append(record)
    tokenizer = MarkerTokenizer.load(small_model)
    settings = TrainingSettings(
        objective=objective, verdicts=verdicts, beta=0.8, max_weight=3.0, sequence_length=256, tokens_per_forward=512
    )
    dataset = write_dataset(tmp_path / "d", train=records)
    tokenize_split(tokenizer, dataset, "train", tmp_path / "tokens", arrangement(settings))
    packed = packed_split(tmp_path / "tokens", settings)
    figures = compared([[(score, one == "a") for one, score in turns] for turns in of_turns])

    # The oracle: the weight of each token, walk by walk, from the records.
    expected, every = [], iter(figures.get(objective, [0.0] * 9))
    for record in records:
        background, *texts = tokenizer.ids(segments(record, tokenizer.markers))
        weights = [1.0] * (len(tokenizer.prefix_ids) + len(background) + 1)
        for text, verdict in zip(texts, arrangement(settings).verdicts(record), strict=True):
            own = min(math.exp(next(every) / 0.8), 3.0)
            if objective == "accepted-only":
                own = float(verdict == "accepted")
            weights += [own] * len(text) + [1.0]
        weights += [1.0] * len(tokenizer.eos_ids)
        expected.append(np.array(weights[1:]))
    assert objective == "accepted-only" or max(map(max, expected)) == 3

    apart = divide(packed.order.rows(0, packed.order.rows_per_epoch), packed.order.lengths, 0)
    threads = torch.get_num_threads()
    accelerator = devices.start()
    torch.set_num_threads(threads)
    for step in ([0, 1, 2], [0], [1], [2]):
        rows = apart.take(np.array(step))
        wanted = [expected[number] for number in packed.pieces.walk[rows.piece]]
        batches, model = packed.passes(rows), Uniform(len(tokenizer.tokenizer))
        assert len(batches) == math.ceil(len(step) / 2)
        found = totals(accelerator, batches, packed.per_token, False)
        parts = PartLosses(accelerator.device)
        loss = accumulate_gradients(accelerator, TokenLosses(model), batches, found, parts)  # type: ignore[arg-type]
        by = sum(map(sum, wanted)) if objective == "accepted-only" else sum(map(len, wanted))
        for pull, weights in zip(model.pulls(batches), wanted, strict=True):
            np.testing.assert_allclose(pull, weights / by, rtol=2e-5)
        # What is logged and watched for jumps is a mean loss for all objectives.
        assert float(loss) == pytest.approx(math.log(model.vocabulary), rel=1e-5)


# --- On the sample corpus -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """top-2 walks of the sample corpus."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "corpus").mkdir()
    write_sample(folder / "corpus", conversations=250)
    return run_stages(folder / "corpus", folder, "top-2", (80, 20, 0)).dataset


@pytest.fixture(scope="module")
def base(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    texts = [walk["text"] for walk in read_walks(sample, "train")]
    settings = BaseModelSettings(layers=1, width=32, heads=2, vocabulary=400, context=128)
    prepare_base_model(settings, FORMATS["default"], texts, folder)
    return folder


@pytest.fixture(scope="module")
def tokens(sample: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "train"
    tokenize_split(MarkerTokenizer.load(base), sample, "train", folder)
    return folder


class Given(torch.nn.Module):
    """A model whose logits are its parameters."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(shape))

    def forward(self, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


@pytest.mark.fast_first
@pytest.mark.parametrize("objective", ["mle", "accepted-only", "unlikelihood"])
def test_rejected_text_pulls_as_the_objective_says(objective: Objective, tokens: Path, base: Path) -> None:
    """The sign of the gradient of each target's own logit, in rows with walks that had to be cut."""
    marked = MarkerTokenizer.load(base)
    settings = replace(SETTINGS, objective=objective, sequence_length=32)
    packed = packed_split(tokens, settings)
    assert packed.pieces.counts["walks_cut"]
    torch.manual_seed(0)
    for built in packed.passes(packed.order.rows(0, 8)):
        batch = built.to(torch.device("cpu"))
        model = Given((*batch.targets.shape, len(marked.tokenizer)))
        losses = TokenLosses(model)(batch).tokens  # type: ignore[arg-type]
        weighted_loss(losses, batch.weights, float(batch.weights.sum())).backward()
        assert model.logits.grad is not None
        pull = -model.logits.grad.gather(-1, batch.targets[..., None])[..., 0].sign()
        rejected = (batch.parts == REJECTED) & ~torch.isin(batch.targets, torch.tensor(marked.control_ids))
        predicted = batch.parts != NOTHING
        assert rejected.any()
        assert (batch.parts == ACCEPTED).any()
        assert (pull[predicted & ~rejected] == 1).all()
        assert (pull[rejected] == {"mle": 1, "accepted-only": 0, "unlikelihood": -1}[objective]).all()
        assert (model.logits.grad[~predicted] == 0).all()
        if objective == "accepted-only":
            assert (model.logits.grad[rejected] == 0).all()


@pytest.mark.fast_first
@pytest.mark.parametrize("objective", ["accepted-only", "unlikelihood", "rwr", "awr"])
def test_the_division_into_passes_does_not_change_the_step(objective: Objective, tokens: Path, base: Path) -> None:
    model = TokenLosses(load_model(base))
    gradients = []
    for at_once in (64, 256):
        settings = replace(SETTINGS, objective=objective, sequence_length=64, tokens_per_forward=at_once, alpha=3.0)
        packed = packed_split(tokens, settings)
        batches = [built.to(torch.device("cpu")) for built in packed.passes(packed.order.rows(0, 8))]
        assert len(batches) == 512 // at_once
        total = float(sum(batch.weights.sum() for batch in batches))
        for batch in batches:
            weighted_loss(model(batch).tokens, batch.weights, total).backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
        model.zero_grad()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", ["rwr", "awr"])
def test_better_scored_turns_count_more(objective: Objective, tokens: Path) -> None:
    split = load_split(tokens)
    weights = weights_of(objective, split).text
    value = rewards(split) if objective == "rwr" else advantages(split)
    assert (np.diff(weights[np.argsort(value)]) >= 0).all()
    assert weights.max() > 2 * weights.min()
    assert weights.max() <= 20
    # top-2 rejects the second-best.
    assert weights[split.accepted].mean() > weights[~split.accepted].mean()


@pytest.mark.slow
def test_a_step_without_anything_to_learn_teaches_nothing(base: Path, tmp_path: Path) -> None:
    # The second piece of this walk is nothing but the inside of a rejected turn.
    long = walk("b", [("s", "word " * 60, "rejected"), ("s", "t", "accepted")])
    job = TrainingJob(
        replace(SETTINGS, objective="accepted-only", sequence_length=16, tokens_per_step=16, log_every=1, max_steps=12),
        write_dataset(tmp_path / "d", train=[long]),
        base,
        tmp_path / "output",
        tmp_path / "work",
    )
    train(job)
    losses = [json.loads(line)["loss"] for line in (job.work / "metrics.jsonl").read_text().splitlines()]
    assert 0 in losses
    assert all(math.isfinite(loss) for loss in losses)


@pytest.fixture(scope="module")
def trained(sample: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The facts of a fine-tune with each objective that is not like another but for what other tests see."""
    threads = torch.get_num_threads()
    facts = {}
    for objective in sorted({*get_args(Objective)} - {"rwr", "a-lol", "quantiles", *PREFERENCES}):
        folder = tmp_path_factory.mktemp(objective)
        job = TrainingJob(replace(SETTINGS, objective=objective), sample, base, folder / "output", folder / "work")
        facts[objective] = train(job)
        assert json.loads((job.output / "training.json").read_text()) == facts[objective]
    yield facts
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_each_objective_learns(trained: dict[str, dict[str, Any]]) -> None:
    for objective, facts in trained.items():
        assert facts["final"]["validation_loss_accepted"] < math.log(400) - 1.5, objective


@pytest.mark.slow
def test_rejected_text_is_as_likely_as_the_objective_wants_it(trained: dict[str, dict[str, Any]]) -> None:
    """The validation loss is the likelihood of every token, whatever the objective."""
    lost = {objective: facts["final"].get("validation_loss_rejected") for objective, facts in trained.items()}
    assert lost["filtering"] is None
    assert lost["accepted-only"] > lost["mle"] + 0.05
    assert lost["unlikelihood"] > lost["mle"] + 0.05


@pytest.mark.slow
def test_unlikelihood_unlearns_what_is_always_rejected(base: Path, tmp_path: Path) -> None:
    same = [
        walk("b", [("s", "one two three", "rejected"), ("s", "four five six", "accepted")], f"c{n}") for n in range(9)
    ]
    dataset = write_dataset(tmp_path / "d", train=same, validation=same[:1])
    lost = {}
    for objective in get_args(Objective):
        if objective in ("mle", "accepted-only", "unlikelihood"):
            settings = replace(SETTINGS, objective=objective)
            job = TrainingJob(settings, dataset, base, tmp_path / objective, tmp_path / f"{objective}-work")
            final = train(job)["final"]
            lost[objective] = final["validation_loss_rejected"]
            assert final["validation_loss_accepted"] < 0.1
    assert lost["mle"] < 0.1
    assert lost["accepted-only"] > lost["mle"] + 1
    assert lost["unlikelihood"] > lost["accepted-only"] + 1


@pytest.mark.slow
def test_the_facts_say_where_markers_stand(trained: dict[str, dict[str, Any]]) -> None:
    for objective, facts in trained.items():
        assert facts["objective"] == objective
        assert facts["markers"] == ("before" if objective in MARKERS_FIRST else "after")
        without = {"filtering", *MARKERS_FIRST}
        assert bool(facts["measures_without_meaning"]) == (objective in without)
        assert bool(facts["train"]["turns_left_out"]) == (objective == "filtering")
        assert bool(facts["train"]["markers_dropped"]) == (objective in ("conditional", "quantiles"))
        assert facts["train"]["walks_left_out"] == 0


@pytest.mark.parametrize(
    "other",
    [{"objective": "rwr"}, {"alpha": 0.5}, {"beta": 0.5}, {"max_weight": 5.0}, {"dropped_markers": 0.2}],
)
def test_another_objective_is_another_job(other: dict[str, Any], sample: Path, base: Path, tmp_path: Path) -> None:
    job = TrainingJob(SETTINGS, sample, base, tmp_path / "output", tmp_path / "work")
    assert fingerprint(job) == fingerprint(replace(job))
    assert fingerprint(job) != fingerprint(replace(job, settings=replace(SETTINGS, **other)))
