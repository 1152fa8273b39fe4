"""Judge replies: the scores by which policy improvement is measured.

Three judges, none of which knows the speaker; the first two read the reply's text alone:

- `templates`, on the sample corpus: the quality of the wording, 0 to 4, which the sample's writer knows
  (`corpus/sample/quality.py`). A reply that matches no template is as bad as the worst.
- `words`, elsewhere: a reward model. Logistic regression on the difference of two siblings' bags of words (Bradley and
  Terry 1952), trained on sibling pairs of the training split; the strength of the L2 penalty, and whether word pairs
  count, are chosen by accuracy on the validation split. Its scores are in standard deviations of people's replies.
- `model`, if the setting `reward_model` names one: a sequence-classification model that was trained elsewhere
  (`reward.py`), which also reads the utterance that is replied to. The scale is that of `words`.

Beside the others a judge of words is fitted too: in every report it is a baseline of preference accuracy
(`baselines.py`).

No judge is fitted or chosen on the conversations that it is used for. Its accuracy on their sibling pairs, the share in
which the better-scored reply gets the higher score, is computed afterwards and stands beside every figure. Below
`LEAST_ACCURACY`, or tested on fewer conversations than an interval needs, a judge decides nothing.

Cost: 100,000 pairs of Reddit comments take about a minute of one core, the 5,000 of the sample's baseline a second.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adc_pipeline.core.engine import Engine
from adc_pipeline.core.errors import DamagedError, first_line
from adc_pipeline.core.records import read_record
from adc_pipeline.evaluation.arrays import Floats
from adc_pipeline.evaluation.formatting import number
from adc_pipeline.evaluation.intervals.bootstrap import ratio_estimates
from adc_pipeline.evaluation.intervals.estimate import Estimate
from adc_pipeline.evaluation.judging.pairs import Pairs, first, read_pairs, with_posts
from adc_pipeline.evaluation.judging.reward import RewardModel
from adc_pipeline.evaluation.settings import JudgeSettings
from adc_pipeline.walks.learnable import FEWEST_CONVERSATIONS
from adc_pipeline.walks.markers import FormatName
from adc_pipeline.walks.rendering import Speakers, create_rendered
from adc_pipeline.walks.splits import Shares, Split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Kind = Literal["templates", "words", "model"]

JUDGE, WEIGHTS = "judge.json", "weights.npz"
# The folder of the bag-of-words model where it is not the judge, and the most pairs that it is fitted on on the sample.
BASELINE, BASELINE_PAIRS = "words", 5_000
# The folder of a reward model, and the most pairs of a split that it scores.
MODEL, MODEL_PAIRS = "model", 1_000
LEAST_ACCURACY = 0.6
# What `judge.json` does not hold.
UNWRITTEN = ("weights", "digest", "baseline", "folder")
# Columns of a bag of words: words and word pairs are hashed, so that nothing has to be kept but the weights.
COLUMNS = 1 << 18
# Inverse strengths of the L2 penalty, and longest n-grams, that are tried.
STRENGTHS, NGRAMS = (0.1, 1.0, 10.0, 100.0), (1, 2)
# Digits of the weights that are kept.
DIGITS = 6


@dataclass(frozen=True)
class Judge:
    """A judge, and how well it tells which of two siblings people preferred.

    `accuracy` is on the test split, `validation_accuracy` on the one that chose it. `worst` is the score of a text that
    cannot be judged, and `span` the difference between a good and a poor reply: of the templates 4, of words that of
    the 95th and the 5th percentile of people's replies. `shares` are those of the splits. `baseline` is the judge of
    words where this is another.
    """

    kind: Kind
    accuracy: Estimate
    validation_accuracy: float | None
    worst: float
    span: float
    shares: Shares
    facts: Mapping[str, Any]
    weights: Floats | None = None
    digest: str = ""
    baseline: "Judge | None" = None
    folder: Path | None = None  # where the judge was read from, or where its reward model is

    @cached_property
    def reward(self) -> RewardModel:
        """The reward model of a judge of the kind `model`."""
        assert self.folder is not None
        try:
            return RewardModel.load(str(self.folder / MODEL), self.facts["template"], local_files_only=True)
        except (OSError, ValueError) as error:
            raise DamagedError(
                f"The reward model in {self.folder} cannot be loaded ({first_line(error)}): materialize judge again."
            ) from error

    @property
    def name(self) -> str:
        return {
            "templates": "the quality of the sample's templates, 0 to 4",
            "words": "a bag-of-words model of the training split's pairs, in standard deviations of people's replies",
            "model": f"the reward model {self.facts.get('model')}, in standard deviations of people's replies",
        }[self.kind]

    def objection(self) -> str:
        """Return why the judge decides nothing; empty if it does."""
        value = self.accuracy.value
        if value is None:
            return "not testable: the test split has no two siblings with different scores to test the judge on"
        if value < LEAST_ACCURACY:
            return (
                f"not testable: the judge's accuracy on the test split is {number(value)}, below {LEAST_ACCURACY:.2f}"
            )
        # On the sample, the templates are what the replies were written by, and their accuracy needs no estimate.
        if self.kind != "templates" and self.accuracy.conversations < FEWEST_CONVERSATIONS:
            return (
                f"not testable: the judge's accuracy was tested on {self.accuracy.conversations} of the test split's"
                f" conversations, and {FEWEST_CONVERSATIONS} are needed"
            )
        return ""

    def scores(self, texts: Sequence[str], posts: Sequence[str] = ()) -> tuple[Floats, np.ndarray]:
        """Return the scores of replies, and whether each could be judged, both (texts,).

        `posts` are what they reply to, which a reward model reads.
        """
        if self.kind == "templates":
            from adc_pipeline.corpus.sample.quality import quality

            found = [quality(text) for text in texts]
            judged = np.array([each is not None for each in found], dtype=bool)
            return np.array([self.worst if each is None else each for each in found], dtype=np.float64), judged
        judged = np.array([bool(text.strip()) for text in texts], dtype=bool)
        if not len(texts):
            return np.zeros(0), judged
        values = self.values(texts, posts)
        values = (values - self.facts["mean"]) / self.facts["deviation"]
        return np.where(judged, values, self.worst), judged

    def values(self, texts: Sequence[str], posts: Sequence[str] = ()) -> Floats:
        """Return the values of words or of a reward model before they are scaled."""
        if not texts:
            return np.zeros(0)
        if self.kind == "model":
            return self.reward.scores(posts or [""] * len(texts), texts)
        assert self.weights is not None
        values: Floats = bags(texts, self.facts["ngrams"]) @ self.weights
        return values

    def write(self, folder: Path) -> None:
        """Write `judge.json` and, of words, `weights.npz`; the baseline's into a folder of its own."""
        if self.baseline is not None:
            (folder / BASELINE).mkdir()
            self.baseline.write(folder / BASELINE)
        record = {name: value for name, value in asdict(self).items() if name not in UNWRITTEN}
        (folder / JUDGE).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        if self.weights is not None:
            places = np.flatnonzero(self.weights)
            np.savez(folder / WEIGHTS, places=places, weights=self.weights[places])

    @classmethod
    def read(cls, folder: Path) -> "Judge":
        """Read a judge from its folder."""
        from adc_pipeline.core.store.content import file_digest, folder_digest

        record = read_record(folder / JUDGE, accuracy=dict, shares=list)
        record["accuracy"] = Estimate(**record["accuracy"])
        record["shares"] = tuple(record["shares"])
        weights = None
        digest = file_digest(folder / JUDGE)
        if (folder / WEIGHTS).exists():
            with np.load(folder / WEIGHTS) as stored:
                weights = np.zeros(COLUMNS)
                weights[stored["places"]] = stored["weights"]
            digest += file_digest(folder / WEIGHTS)
        baseline = cls.read(folder / BASELINE) if (folder / BASELINE).is_dir() else None
        if record["kind"] == "model":
            digest += folder_digest(folder / MODEL)
        return cls(**record, weights=weights, digest=digest, baseline=baseline, folder=folder)


def bags(texts: Sequence[str], ngrams: int) -> "csr_matrix":
    """Return how often each word, and each pair of words if `ngrams` is 2, occurs in each text, at a length of 1."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=COLUMNS, ngram_range=(1, ngrams), alternate_sign=False, token_pattern=r"(?u)\w+|[^\w\s]"
    )
    return vectorizer.transform(texts)


def make_judge(
    sample: bool,
    utterances: Path,
    ranked: Path,
    shares: Shares,
    format: FormatName,
    settings: JudgeSettings,
    spill: Path,
    engine: Engine | None = None,
    reward: tuple[Path, Mapping[str, Any]] | None = None,
    mentions: Speakers = "names",
) -> Judge:
    """Make the judge of a corpus; `sample` says that it is the sample corpus, with no other beside it.

    `utterances` and `ranked` are the folders of those stages, `shares`, `format` and `mentions` the settings
    of the datasets.
    `reward` is the folder that holds a reward model as `MODEL`, and the model's facts.
    """
    with (engine or Engine()).connect(spill) as connection:
        create_rendered(connection, utterances, format, "none", mentions)

        def pairs(split: Split, most: int) -> Pairs:
            return read_pairs(connection, ranked, shares, split, most)

        most = min(settings.max_pairs, BASELINE_PAIRS) if sample else settings.max_pairs
        held_out = settings.max_held_out_pairs
        validation, test = pairs("validation", held_out), pairs("test", held_out)
        fitted = tested(words(pairs("train", most), validation, shares), test, settings)
        if reward is None:
            return replace(tested(templates(shares), test, settings), baseline=fitted) if sample else fitted
        few = min(held_out, MODEL_PAIRS)
        validation, test = (with_posts(connection, first(each, few)) for each in (validation, test))
        judge = replace(scaled(rewarded(*reward, shares), validation), baseline=fitted)
        return tested(judge, test, settings)


NO_ACCURACY = Estimate(None, None, None, 0, 0)


def templates(shares: Shares) -> Judge:
    return Judge("templates", NO_ACCURACY, None, worst=0.0, span=4.0, shares=shares, facts={})


def words(train: Pairs, validation: Pairs, shares: Shares) -> Judge:
    """Fit the bag-of-words model, and choose penalty and n-grams by accuracy on the validation pairs.

    The first of equally accurate ones is taken. Without training pairs all weights are 0.
    """
    from sklearn.linear_model import LogisticRegression

    best, weights, chosen = -1.0, np.zeros(COLUMNS), (1, 0.0)
    for ngrams in NGRAMS if train.better else ():
        difference = bags(train.better, ngrams) - bags(train.worse, ngrams)
        # Both classes are needed: every other pair is turned around.
        sign = np.where(np.arange(difference.shape[0]) % 2, -1.0, 1.0)
        # The other columns' weights are 0.
        columns = np.unique(difference.indices)
        turned = difference[:, columns].multiply(sign[:, None]).tocsr()
        held_out = bags(validation.better, ngrams) - bags(validation.worse, ngrams) if validation.better else None
        for strength in STRENGTHS if len(sign) > 1 and len(columns) else ():
            model = LogisticRegression(C=strength, fit_intercept=False, max_iter=200)
            found = np.zeros(COLUMNS)
            found[columns] = model.fit(turned, sign).coef_[0].round(DIGITS)
            accuracy = 0.0 if held_out is None else float(wins(held_out @ found).mean())
            if accuracy > best:
                best, weights, chosen = accuracy, found, (ngrams, strength)
    ngrams, strength = chosen
    # In the order of `judge.json`, by whose digest cells of a study are known to have one judge; `scaled` fills in two.
    facts = {"ngrams": ngrams, "strength": strength, "mean": 0.0, "deviation": 1.0, "pairs": len(train.better)}
    judge = Judge(
        "words",
        NO_ACCURACY,
        best if validation.better and best >= 0 else None,
        worst=0.0,
        span=0.0,
        shares=shares,
        facts=facts,
        weights=weights,
    )
    return scaled(judge, validation)


def rewarded(folder: Path, facts: Mapping[str, Any], shares: Shares) -> Judge:
    """Return the judge by the reward model in `folder`, not scaled yet."""
    return Judge("model", NO_ACCURACY, None, worst=0.0, span=0.0, shares=shares, facts=facts, folder=folder)


def scaled(judge: Judge, validation: Pairs) -> Judge:
    """Return the judge with its scale, which is that of people's replies on the validation split, and its accuracy."""
    better, worse = (judge.values(texts, validation.post) for texts in (validation.better, validation.worse))
    accuracy = judge.validation_accuracy
    if judge.kind == "model" and len(better):
        accuracy = float(wins(better - worse).mean())
    values = np.concatenate([better, worse]) if len(better) else np.zeros(1)
    low, mean, high = (float(each) for each in (np.percentile(values, 5), values.mean(), np.percentile(values, 95)))
    deviation = float(values.std()) or 1.0
    return replace(
        judge,
        validation_accuracy=accuracy,
        worst=(float(values.min()) - mean) / deviation,
        span=(high - low) / deviation,
        facts={**judge.facts, "mean": mean, "deviation": deviation},
    )


def wins(differences: Floats) -> Floats:
    """Return 1 where the better reply scores higher, 0 where the worse one does, ½ where they tie."""
    return np.where(differences == 0, 0.5, differences > 0)


def tested(judge: Judge, test: Pairs, settings: JudgeSettings) -> Judge:
    """Return the judge with its accuracy on pairs of the test split."""
    if not test.better:
        return judge
    won = wins(judge.scores(test.better, test.post)[0] - judge.scores(test.worse, test.post)[0])
    conversation = np.unique(test.conversation, return_inverse=True)[1].astype(np.int64)
    (accuracy,) = ratio_estimates(won[None], np.ones((1, len(won))), conversation, settings.draws, settings.draw_seed)
    return replace(judge, accuracy=accuracy)
