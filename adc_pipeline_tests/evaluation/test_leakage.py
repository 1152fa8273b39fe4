"""What the test split shares with the training split, beside a slow search of all pairs of roots."""

import random
import unicodedata
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from adc_pipeline.core.engine import Engine
from adc_pipeline.evaluation.cases.cases import Cases, read_cases
from adc_pipeline.evaluation.cases.leakage import leakage_sentences
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.leakage import count_leakage
from adc_pipeline.walks.splits import SPLITS, split_of
from adc_pipeline_tests.evaluation.conftest import Stages, run_stages
from adc_pipeline_tests.stages import utterance_records
from adc_pipeline_tests.trees import Corpus, Row

SHARES = (50, 10, 40)
TITLES = ("", "My lamp", "MY  LAMP!", "my lamp hums", "Größe", "C++", "C", "...")
TEXTS = (
    "",
    "It hums.",
    "it\n hums",
    "It hums loudly.",
    "[removed]",
    " [deleted] ",
    "Cafe\u0301 au lait",
    "CAFÉ – au lait?",
    "🙂",
    "nul\0nul",
)
SPEAKERS = ("ann", "bob", "cy", "dee", "eve", "[deleted]", "")  # fmt: skip
# Title and text of a root in the training split, of one in the test split, and whether the latter is excluded.
ROOTS = [
    (("How do I fix it?", "The valve (old) leaks."), ("how do I  fix it", "the valve – OLD – leaks\n"), True),
    (("Help with a fork", "It creaks."), ("Help with a fork", "It creaks loudly."), False),
    (("Help with a fork", "It creaks."), ("Help with my fork", "It creaks."), False),
    (("A link", ""), ("a link!", ""), True),
    (("", "Only a text."), ("", "only a text"), True),
    (("", ""), ("", ""), False),
    (("?!", "[deleted]"), ("", "[removed]"), False),
    (("Note", "[deleted]"), ("Note", "[removed]"), True),
    (("One", "two three"), ("One two", "three"), False),
]  # fmt: skip


def ids_of(split: str, count: int) -> list[str]:
    return [id for id in (f"q{n}" for n in range(2000)) if split_of(id, SHARES) == split][:count]


def conversation(id: str, title: str, text: str, speakers: list[str]) -> Corpus:
    """A root with three replies."""
    rows = [Row(id, id, None, speakers[0], text, 0, {"score": 1})]
    rows += [Row(f"{id}r{n}", id, id, speakers[n], f"Reply {n} to {id}.", n, {"score": n}) for n in (1, 2, 3)]
    return Corpus(rows, {id: {"title": title}} if title else {})


def stages_of(conversations: list[Corpus], folder: Path) -> Stages:
    rows = [row for each in conversations for row in each.rows]
    titles = {id: entry for each in conversations for id, entry in each.conversations.items()}
    return run_stages(Corpus(rows, titles).write(folder / "corpus"), folder, "top-2", SHARES)


def cases_of(stages: Stages, folder: Path, most: int = 500, exclude: bool = True) -> Cases:
    folders, caps = (
        (stages.dataset, stages.utterances, stages.ranked),
        EvaluationSettings(max_conversations=most, leakage="equal"),
    )
    return read_cases(*folders, "default", "names", caps, folder / "spill", exclude_repeated_roots=exclude)


def folded(text: str) -> str:
    composed = unicodedata.normalize("NFC", text).lower()
    return " ".join("".join(" " if unicodedata.category(each)[0] in "PZC" else each for each in composed).split())


def is_repeated(test: tuple[str, str], train: tuple[str, str]) -> bool:
    (title, text), (other_title, other_text) = [
        (folded(title), "" if text.strip() in ("[deleted]", "[removed]") else folded(text))
        for title, text in (test, train)
    ]
    return (title, text) == (other_title, other_text) and (title != "" or text != "")


def test_a_root_that_occurs_in_training_is_excluded(tmp_path: Path) -> None:
    train, test = ids_of("train", len(ROOTS)), ids_of("test", len(ROOTS))
    people = ["ann", "bob", "cy", "dee"]
    conversations = []
    for (seen, asked, _), one, other in zip(ROOTS, train, test, strict=True):
        conversations += [conversation(one, *seen, people), conversation(other, *asked, people)]
    stages = stages_of(conversations, tmp_path)
    found = cases_of(stages, tmp_path)
    kept = {id for (_, _, excluded), id in zip(ROOTS, test, strict=True) if not excluded}
    assert set(found.conversations) == kept
    assert (found.test_conversations, found.leakage.repeated_roots, found.leakage.left_out) == (9, 4, 4)
    assert {found.conversations[number] for number in found.turns.conversation} == kept
    assert leakage_sentences(found.leakage.counts()) == [
        "4 test conversations whose root also occurs in the training split are excluded.",
        "Of the 3 authors of the evaluated replies, a share of 1.000 also wrote in the training split; 1.000 of the"
        " replies are theirs.",
    ]
    every = cases_of(stages, tmp_path, exclude=False)
    assert set(every.conversations) == set(test)
    assert (every.leakage.repeated_roots, every.leakage.left_out) == (4, 0)
    assert "are evaluated all the same" in leakage_sentences(every.leakage.counts())[0]


def test_conversations_that_are_nearly_in_training_are_excluded_by_default(tmp_path: Path) -> None:
    train, test = ids_of("train", 3), ids_of("test", 3)
    long = " ".join(f"word{number}" for number in range(40))
    people = ["ann", "bob", "cy", "dee"]
    conversations = []
    # A root with a word more, the same replies below another root, and nothing alike.
    for number, (one, other) in enumerate(zip(train, test, strict=True)):
        seen, asked = (conversation(id, f"Title {id}", f"Text {id}", people) for id in (one, other))
        if number == 0:
            for each, text in ((seen, long), (asked, f"{long} again")):
                each.rows[0] = replace(each.rows[0], text=text)
                each.conversations[each.rows[0].id] = {"title": "Same title"}
        if number == 1:
            for place in (1, 2, 3):
                seen.rows[place], asked.rows[place] = (
                    replace(each.rows[place], text=f"{long} {place}") for each in (seen, asked)
                )
        conversations += [seen, asked]
    stages = stages_of(conversations, tmp_path)
    files = {split: split_files(stages.dataset, split) for split in SPLITS}
    counted = count_leakage(files, "default", "names", "auto", Engine(), tmp_path / "spill")
    # A walk of the second conversation shows only some of the replies.
    assert counted["leakage.equal_roots"] == 0
    assert counted["leakage.nearly_alike"] in (1, 2)
    assert count_leakage(files, "default", "names", "none", Engine(), tmp_path / "spill") == {}
    equal = cases_of(stages, tmp_path)
    assert (set(equal.conversations), equal.leakage.near) == (set(test), None)
    folders = (stages.dataset, stages.utterances, stages.ranked)
    near = read_cases(*folders, "default", "names", EvaluationSettings(), tmp_path / "spill")
    assert set(near.conversations) == {test[2]}
    assert (near.leakage.repeated_roots, near.leakage.left_out, near.leakage.near) == (2, 2, 2)
    assert near.leakage.counts()["conversations.nearly_in_training"] == 2
    assert leakage_sentences(near.leakage.counts())[1] == (
        "2 of them are not equal to one of training but nearly alike, root or conversation."
    )


@pytest.mark.slow
def test_repeated_roots_and_known_speakers_equal_the_search(tmp_path: Path) -> None:
    dice = random.Random(3)
    roots = {
        id: (dice.choice(TITLES), dice.choice(TEXTS))
        for split in ("train", "validation", "test")
        for id in ids_of(split, 20)
    }
    # In the training split, everybody but ann writes; elsewhere, everybody but eve.
    authors = {"train": SPEAKERS[1:], "validation": SPEAKERS, "test": (*SPEAKERS[:4], *SPEAKERS[5:])}
    speakers = {id: dice.choices(authors[split_of(id, SHARES)], k=4) for id in roots}
    stages = stages_of([conversation(id, *root, speakers[id]) for id, root in roots.items()], tmp_path)
    train, test = [[id for id in roots if split_of(id, SHARES) == split] for split in ("train", "test")]
    repeated = {one for one, other in product(test, train) if is_repeated(roots[one], roots[other])}
    assert 3 < len(repeated) < len(test) - 3
    written = utterance_records(stages.utterances)
    trained = {row["speaker"] for row in written if row["conversation_id"] in train}
    scores: dict[str, list[int]] = {}
    for row in written:
        if row["conversation_id"] in train and not row["is_root"]:
            scores.setdefault(row["speaker"], []).append(row["score"])
    every = [score for each in scores.values() for score in each]
    speaker_of = {row["id"]: row["speaker"] for row in written}

    def mean_of(id: str) -> float:
        known = scores.get(speaker_of[id], every) if speaker_of[id] not in ("", "[deleted]") else every
        return sum(known) / len(known)

    for most in (500, 5):
        found = cases_of(stages, tmp_path, most)
        assert found.leakage.repeated_roots == len(repeated)
        assert len(found.conversations) == min(most, len(test) - len(repeated))
        assert set(found.conversations) <= set(test) - repeated

        for case, *means, free in zip(
            found.pairs.case,
            found.pairs.better_speaker,
            found.pairs.worse_speaker,
            found.pairs.speaker_free,
            strict=True,
        ):
            assert means == pytest.approx([mean_of(id) for id in str(case).split(">")])
            assert free == (means[0] == means[1])

        replies = [row for row in written if row["conversation_id"] in found.conversations and not row["is_root"]]
        by = [row["speaker"] for row in replies if row["speaker"] not in ("", "[deleted]")]
        known = trained & set(by)
        assert 0 < len(known) < len(set(by))
        assert found.leakage.speakers == len(set(by))
        assert found.leakage.known_speakers == pytest.approx(len(known) / len(set(by)))
        assert found.leakage.known_replies == pytest.approx(sum(each in known for each in by) / len(by))
