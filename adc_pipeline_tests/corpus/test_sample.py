"""The sample is the same everywhere, loads as any corpus does, and holds what it promises to hold."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from adc_pipeline.corpus.sample.threads import Dice, Subreddit, Thread, words, write_sample
from adc_pipeline.corpus.sample.wordings import MARKERS, SPEAKERS, THINGS
from adc_pipeline.corpus.settings import UtteranceSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.splits import split_of

FILES = ("conversations.json", "corpus.json", "index.json", "speakers.json", "utterances.jsonl")
Line = dict[str, Any]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def utterances(sample: Path) -> list[Line]:
    return [json.loads(line) for line in (sample / "utterances.jsonl").read_text("ascii").splitlines()]


@pytest.fixture(scope="module")
def threads() -> list[Thread]:
    """Threads with their latent levels, which the files do not tell."""
    dice, subreddit = Dice(1), Subreddit("fixitbench")
    grown = [Thread(number, subreddit, dice, words(SPEAKERS)) for number in range(400)]
    for thread in grown:
        thread.grow()
    return grown


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "again", "other")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        write_sample(folder, conversations=60, seed=seed)
    first, again, other = map(digests, folders)
    assert tuple(first) == FILES
    assert first == again
    assert first["utterances.jsonl"] != other["utterances.jsonl"]


def test_the_bytes_are_those_of_every_other_machine(tmp_path: Path) -> None:
    """Figures in the documentation hold for these bytes: a change of them must be meant."""
    write_sample(tmp_path, conversations=60)
    assert digests(tmp_path)["utterances.jsonl"][:16] == "e20167ebffe119d0"


@pytest.mark.slow
def test_convokit_loads_it(tmp_path: Path) -> None:
    from convokit import Corpus

    write_sample(tmp_path, conversations=200)
    lines = (tmp_path / "utterances.jsonl").read_text("ascii").splitlines()
    corpus = Corpus(filename=str(tmp_path))
    assert len(list(corpus.iter_utterances())) == len(lines)
    assert len(list(corpus.iter_conversations())) == 200
    for conversation in corpus.iter_conversations():
        assert conversation.meta["title"]
        assert conversation.meta["num_comments"] == len(conversation.get_utterance_ids()) - 1
        root = corpus.get_utterance(conversation.id)
        assert root.reply_to is None
        assert root.meta["subreddit"] == conversation.meta["subreddit"]


def test_ids_are_unique_and_top_level_comments_are_replies_to_the_root(utterances: list[Line]) -> None:
    by_id = {line["id"]: line for line in utterances}
    assert len(by_id) == len(utterances)
    for line in utterances:
        top = line["meta"]["top_level_comment"]
        if line["id"] == line["conversation_id"]:
            assert top is None
        else:
            # The top-level comment itself may be one whose parent is missing.
            assert by_id[top]["reply_to"] == line["conversation_id"] or by_id[top]["reply_to"] not in by_id


def is_reply(line: Line) -> bool:
    return line["reply_to"] is not None


MESS: dict[str, Callable[[Line], bool]] = {
    "deleted": lambda line: line["text"] == "[deleted]" and line["speaker"] == "[deleted]",
    "removed": lambda line: line["text"] == "[removed]",
    "moderator note": lambda line: line["speaker"] == "AutoModerator" and line["meta"]["stickied"],
    "stickied by a person": lambda line: line["speaker"] != "AutoModerator" and line["meta"]["stickied"],
    "hidden score": lambda line: line["meta"]["score_hidden"],
    "negative score": lambda line: line["meta"]["score"] < 0,
    "link post": lambda line: not is_reply(line) and line["text"] == "",
    "accent": lambda line: "é" in line["text"] or "á" in line["text"],
    "emoji": lambda line: any(ord(character) > 0xFFFF for character in line["text"]),
    "HTML entity": lambda line: "&amp;" in line["text"],
    "accepted marker": lambda line: "<accepted>" in line["text"],
    "rejected marker": lambda line: "<rejected>" in line["text"],
    "background marker": lambda line: "<background>" in line["text"],
}


@pytest.mark.parametrize("kind", MESS)
def test_every_kind_of_mess_is_there_and_rare(utterances: list[Line], kind: str) -> None:
    found = sum(map(MESS[kind], utterances))
    assert 5 <= found <= 0.05 * len(utterances)


def test_some_trees_are_broken_empty_or_deep(utterances: list[Line]) -> None:
    by_id = {line["id"]: line for line in utterances}
    parents = {line["reply_to"] for line in utterances}
    orphans = [line for line in utterances if is_reply(line) and line["reply_to"] not in by_id]
    assert 0.002 < len(orphans) / len(utterances) < 0.03
    assert any(line["id"] in parents for line in orphans)
    assert any(line["text"] in ("[deleted]", "[removed]") and line["id"] in parents for line in utterances)
    roots = [line for line in utterances if not is_reply(line)]
    silent = [root for root in roots if root["id"] not in parents]
    assert 0.01 < len(silent) / len(roots) < 0.06

    def depth(line: Line) -> int:
        steps = 0
        while line["reply_to"] in by_id:
            line = by_id[line["reply_to"]]
            steps += 1
        return steps

    assert max(map(depth, utterances)) >= 15


def sibling_groups(lines: list[Line]) -> list[list[Line]]:
    groups = defaultdict(list)
    for line in filter(is_reply, lines):
        groups[line["reply_to"]].append(line)
    return [group for group in groups.values() if len(group) > 1]


def test_some_siblings_are_tied_and_the_file_is_not_in_rank_order(utterances: list[Line]) -> None:
    groups = [[line["meta"]["score"] for line in group] for group in sibling_groups(utterances)]
    tied = sum(len(set(scores)) < len(scores) for scores in groups)
    assert 0.05 < tied / len(groups) < 0.5
    pairs = [(first, second) for scores in groups for first, second in combinations(scores, 2)]
    falling = sum(first > second for first, second in pairs)
    rising = sum(first < second for first, second in pairs)
    assert 0.45 < falling / (falling + rising) < 0.55


def test_length_alone_hardly_tells_the_better_reply(utterances: list[Line]) -> None:
    longer = shorter = 0
    for group in sibling_groups(utterances):
        for a, b in combinations(group, 2):
            by_score = a["meta"]["score"] - b["meta"]["score"]
            by_length = len(a["text"]) - len(b["text"])
            longer += by_score * by_length > 0
            shorter += by_score * by_length < 0
    assert 0.4 < longer / (longer + shorter) < 0.65


def test_sibling_groups_are_large_enough_for_several_steps_of_improvement(threads: list[Thread]) -> None:
    groups = defaultdict(list)
    for thread in threads:
        for utterance in thread.utterances[1:]:
            if utterance.speaker != "AutoModerator":
                groups[utterance.lost_parent or utterance.reply_to].append(utterance)
    sizes = {
        depth: {len(group) for group in groups.values() if (group[0].depth == 1) is depth} for depth in (True, False)
    }
    assert sizes == {True: set(range(3, 13)), False: {2, 3, 4, 5}}


def test_score_follows_quality_without_being_a_function_of_it(threads: list[Thread]) -> None:
    groups = defaultdict(list)
    for thread in threads:
        for utterance in thread.utterances:
            if utterance.reply_to is not None and not utterance.stickied:
                groups[utterance.reply_to].append(utterance)
    concordant = discordant = same_level_other_score = 0
    for group in groups.values():
        for a, b in combinations(group, 2):
            agreement = (a.level - b.level) * (a.score - b.score)
            concordant += agreement > 0
            discordant += agreement < 0
            same_level_other_score += a.level == b.level and a.score != b.score
    assert 0.75 < concordant / (concordant + discordant) < 0.98
    assert same_level_other_score > 100


def test_good_replies_take_up_their_parents_noun_and_share_one_of_their_own(threads: list[Thread]) -> None:
    for thread in threads:
        by_id = {utterance.id: utterance for utterance in thread.utterances}
        shared = defaultdict(set)
        for utterance in thread.utterances:
            if utterance.reply_to not in by_id or utterance.level < 4 or utterance.speaker == "AutoModerator":
                continue
            if utterance.text not in ("[deleted]", "[removed]"):
                assert by_id[utterance.reply_to].noun.name in utterance.text.lower()
                assert utterance.noun.name in utterance.text.lower()
            shared[utterance.reply_to].add(utterance.noun.name)
        assert all(len(names) == 1 for names in shared.values())


def test_markers_stand_only_where_a_user_wrote_one(sample: Path, utterances: list[Line]) -> None:
    conversations = json.loads((sample / "conversations.json").read_text("ascii"))
    titles = [conversation["meta"]["title"] for conversation in conversations.values()]
    markers = [marker for markers in FORMATS.values() for marker in markers.strings()]
    for line in utterances:
        text = line["text"]
        for sentence in MARKERS:
            text = text.removesuffix(" " + sentence)
        for part in (text, line["speaker"]):
            assert not any(marker in part for marker in markers)
            # A turn is its speaker, a line break, its text.
            assert "\n" not in part
    assert not any(marker in title or "\n" in title for title in titles for marker in markers)


def test_enough_conversations_to_measure_on(utterances: list[Line]) -> None:
    replied = {line["conversation_id"] for line in utterances if is_reply(line)}
    splits = [split_of(conversation) for conversation in replied]
    assert splits.count("test") >= 100
    assert splits.count("validation") >= 100
    assert {line["meta"]["subreddit"] for line in utterances} == set(THINGS)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("conversations", [20, 30, 50, 150])
def test_a_small_sample_passes_the_default_limits(tmp_path: Path, conversations: int, seed: int) -> None:
    write_sample(tmp_path, conversations=conversations, seed=seed)
    lines = [json.loads(line) for line in (tmp_path / "utterances.jsonl").read_text().splitlines()]
    parents = {line["id"]: line["reply_to"] for line in lines}

    def reaches_a_root(name: str | None) -> bool:
        while name in parents:
            name = parents[name]
        return name is None

    set_aside = [name for name in parents if not reaches_a_root(name)]
    assert len(set_aside) <= UtteranceSettings().max_set_aside * len(lines)


def test_missing_parents_come_back_with_the_largest_subtrees_first(tmp_path: Path) -> None:
    """So that what real corpora contain stays in a sample."""
    write_sample(tmp_path, conversations=300, seed=5)
    lines = [json.loads(line) for line in (tmp_path / "utterances.jsonl").read_text().splitlines()]
    names = {line["id"] for line in lines}
    assert any(line["reply_to"] and line["reply_to"] not in names for line in lines)
