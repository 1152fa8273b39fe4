"""Generate the sample corpus: synthetic forum threads in ConvoKit's format, in which better answers score higher.

The sample shows that the whole pipeline works, without any downloaded data: a model of less than a million parameters
must learn from it what the datasets teach, in about a minute or less on two CPU cores. Each thread asks about a thing
that fails, and every reply is generated in three steps:

    latent quality (0 to 4)  ->  wording of about that quality  ->  score (quality + luck, times the crowd)

A good reply names a cause, a reason and a step; a poor reply is vague, empty or rude, and not always short. A model can
also learn the reply structure. Siblings share a noun and a tool that do not appear in their parent, so a sibling in the
context helps to predict the next. A reply repeats the noun that its parent introduced, which distinguishes siblings of
a turn from replies to it.

Irregularities of real corpora are mixed in, up to four per cent each: deleted and removed replies, moderator notes,
hidden scores, link posts, threads without replies, missing parents, markup, emoji, marker strings.

The only source of randomness is `random.Random(seed).random()`, whose stream Python guarantees, and integers derived
from it; the files are ASCII. The same seed therefore gives the same bytes on every platform. Writing the default of
4,000 threads (75,417 utterances for seed 0, 25 MB) takes 1.3 s.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from adc_pipeline.corpus.sample.wordings import (
    AGAIN,
    CAUSES,
    CLOSERS,
    MARKERS,
    MARKUP,
    OPENERS,
    QUESTIONS,
    SPEAKERS,
    THINGS,
    TITLES,
    TOOLS,
    UNICODE,
    WORDINGS,
    Role,
)

# Largest share of utterances below a missing parent; the setting `max_set_aside` allows 0.05.
MOST_LOST = 0.045

T = TypeVar("T")

FIRST_POST = 1_600_000_000  # seconds: September 2020
QUALITIES = (16, 17, 19, 24, 24)  # per cent of the replies that are of quality 0, 1, 2, 3, 4
SLIPS = (0, 0, 0, 0, 0, 0, 0, 0, 1, -1)  # difference of level and quality, equally likely each


@dataclass(frozen=True)
class Noun:
    name: str
    fault: str
    action: str = ""


def words(table: str) -> list[str]:
    return [word.strip() for word in table.split(",")]


def nouns(table: str) -> list[Noun]:
    return [Noun(*entry.split()) for entry in words(table)]


class Subreddit:
    """A subreddit's vocabulary; `strangers` are the things of the other subreddits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.things = nouns(THINGS[name])
        self.causes = nouns(CAUSES[name])
        self.tools = words(TOOLS[name])
        self.strangers = [noun for other in THINGS if other != name for noun in nouns(THINGS[other])]


@dataclass
class Utterance:
    """A generated utterance; its replies repeat `noun`, and `level` (0 to 4) is the quality of its wording.

    `stage` is the stage of the conversation: 0 the question, 1 advice, 2 a report, 3 advice on the report, and so on.
    """

    id: str
    reply_to: str | None
    speaker: str
    text: str
    timestamp: int
    score: int
    depth: int
    top_level: str | None
    noun: Noun
    level: int
    stage: int
    # The parent of a reply whose `reply_to` leads nowhere.
    lost_parent: str | None = None
    stickied: bool = False
    score_hidden: bool = False


class Dice:
    """Random choices from one stream of `random.Random.random`, which is the same in every Python version."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, bound: int) -> int:
        return int(self._random() * bound)

    def chance(self, per_mille: int) -> bool:
        return self.below(1000) < per_mille

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Return an index with a probability of its weight in per cent; the weights add up to 100."""
        place = self.below(100)
        index = 0
        while place >= weights[index]:
            place -= weights[index]
            index += 1
        return index


@dataclass
class Thread:
    """A conversation under construction."""

    number: int
    subreddit: Subreddit
    dice: Dice
    speakers: list[str]
    title: str = ""
    utterances: list[Utterance] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"t{self.number:05d}"

    def grow(self) -> None:
        dice = self.dice
        noun = dice.pick(self.subreddit.things)
        self.title = dice.pick(TITLES).format(p=noun.name, pf=noun.fault)
        link_post = dice.chance(25)
        root = Utterance(
            id=self.id,
            reply_to=None,
            speaker=dice.pick(self.speakers),
            text="" if link_post else f"The {noun.name} {noun.fault}. {dice.pick(QUESTIONS)}",
            timestamp=FIRST_POST + 1800 * self.number + dice.below(1800),
            score=1 + dice.below(60),
            depth=0,
            top_level=None,
            noun=noun,
            level=4,
            stage=0,
        )
        self.utterances.append(root)
        if dice.chance(30):
            return
        crowd = 2 + dice.below(6) * dice.below(6)
        deep = self.number % 1000 == 7
        # Groups so large that an ascending walk shows several steps of improvement.
        open_ends = [(root, 3 + dice.below(10))]
        while open_ends:
            parent, count = open_ends.pop(0)
            group = self.replies(parent, count, crowd)
            best = max(group, key=lambda reply: reply.score)
            for reply in group:
                if (deep and reply is best and reply.depth < 16) or dice.chance(self.openness(reply)):
                    open_ends.append((reply, 2 + dice.weighted((45, 30, 15, 10))))
        if dice.chance(40):
            self.utterances.append(self.moderator_note(root))
        self.utterances.sort(key=lambda utterance: (utterance.timestamp, utterance.id))

    def openness(self, reply: Utterance) -> int:
        """Return the probability, per mille, that a reply gets replies; better and shallower replies get more."""
        return (20, 40, 100, 280, 600)[reply.level] * 4 // (3 + reply.depth)

    def replies(self, parent: Utterance, count: int, crowd: int) -> list[Utterance]:
        """Add and return `count` siblings under `parent`; they share a noun and a tool that `parent` does not name."""
        dice = self.dice
        # A reply without content does not advance the stage: replies to it have the stage of its siblings.
        stage = parent.stage + (parent.level >= 2)
        role: Role = "advice" if stage % 2 else "report"
        shared = dice.pick(self.subreddit.causes if role == "advice" else self.subreddit.things)
        tool = dice.pick(self.subreddit.tools)
        group = []
        for _ in range(count):
            quality = dice.weighted(QUALITIES)
            level = min(4, max(0, quality + dice.pick(SLIPS)))
            text = self.wording(role, stage, level).format(
                p=parent.noun.name,
                pf=parent.noun.fault,
                n=shared.name,
                f=shared.fault,
                a=shared.action,
                A=shared.action.capitalize(),
                t=tool,
                x=dice.pick(self.subreddit.strangers).name,
            )
            appeal = 4 * quality + dice.below(7) + dice.below(7) - 6
            number = len(self.utterances)
            identity = f"{self.id}c{number:03d}"
            reply = Utterance(
                id=identity,
                reply_to=parent.id,
                speaker=dice.pick(self.speakers),
                text=text,
                timestamp=parent.timestamp + 60 + dice.below(60) * dice.below(60) * dice.below(12),
                score=1 + appeal * crowd // 12,
                depth=parent.depth + 1,
                top_level=parent.top_level or identity,
                noun=shared if level >= 2 else parent.noun,
                level=level,
                stage=stage,
            )
            self.disturb(reply)
            self.utterances.append(reply)
            group.append(reply)
        return group

    def wording(self, role: Role, stage: int, level: int) -> str:
        dice = self.dice
        # The tone does not always match the quality.
        manner = dice.below(5) if dice.chance(100) else level
        parts = [dice.pick(WORDINGS[role][level])]
        if stage > 2:
            parts.insert(0, dice.pick(AGAIN[min(stage, 6) - 3]))
        elif dice.chance(300):
            parts.insert(0, dice.pick(OPENERS[manner]))
        if dice.chance(450 - 80 * manner):
            parts.append(dice.pick(CLOSERS[manner]))
        return " ".join(parts)

    def disturb(self, reply: Utterance) -> None:
        """Add irregularities of real corpora to some replies, independent of quality."""
        dice = self.dice
        if dice.chance(10):
            reply.text += " " + dice.pick(UNICODE)
        if dice.chance(10):
            reply.text += " " + dice.pick(MARKUP)
        if dice.chance(5):
            reply.text += " " + dice.pick(MARKERS)
        fate = dice.below(1000)
        if fate < 10:
            reply.text, reply.speaker = "[deleted]", "[deleted]"
        elif fate < 20:
            reply.text = "[removed]"
        elif fate < 30:
            reply.lost_parent, reply.reply_to = reply.reply_to, f"{self.id}gone{fate}"
        elif fate < 35:
            reply.score_hidden = True
        elif fate < 38:
            reply.stickied = True

    def moderator_note(self, root: Utterance) -> Utterance:
        identity = f"{self.id}note"
        return Utterance(
            id=identity,
            reply_to=root.id,
            speaker="AutoModerator",
            text=f"Welcome to r/{self.subreddit.name}. Please be kind and stay on topic.",
            timestamp=root.timestamp + 1,
            score=1,
            depth=1,
            top_level=identity,
            noun=root.noun,
            level=1,
            stage=1,
            stickied=True,
        )

    def utterance_lines(self) -> list[str]:
        return [
            json.dumps(
                {
                    "id": utterance.id,
                    "conversation_id": self.id,
                    "text": utterance.text,
                    "speaker": utterance.speaker,
                    "reply_to": utterance.reply_to,
                    "timestamp": utterance.timestamp,
                    "meta": {
                        "score": utterance.score,
                        "top_level_comment": utterance.top_level,
                        "subreddit": self.subreddit.name,
                        "stickied": utterance.stickied,
                        "score_hidden": utterance.score_hidden,
                    },
                    "vectors": [],
                }
            )
            for utterance in self.utterances
        ]

    def meta(self) -> dict[str, str | int]:
        comments = len(self.utterances) - 1
        return {"title": self.title, "subreddit": self.subreddit.name, "num_comments": comments}


def restore_parents(threads: list[Thread]) -> None:
    """Give missing parents back, largest subtree first, until at most `MOST_LOST` of the utterances are below one.

    In a small sample one long thread may hold a tenth of it, below a reply whose parent is missing. The default sample
    has less, so that it stays as it was grown.
    """
    utterances = [utterance for thread in threads for utterance in thread.utterances]
    while True:
        below = subtree_sizes(utterances)
        lost = {utterance.id: utterance for utterance in utterances if utterance.lost_parent}
        if sum(below[identity] for identity in lost) <= MOST_LOST * len(utterances):
            return
        largest = max(lost.values(), key=lambda utterance: below[utterance.id])
        largest.reply_to, largest.lost_parent = largest.lost_parent, None


def subtree_sizes(utterances: list[Utterance]) -> dict[str, int]:
    """Return the number of utterances that can be reached from each, itself included."""
    sizes = {utterance.id: 1 for utterance in utterances}
    for utterance in sorted(utterances, key=lambda utterance: -utterance.depth):
        if utterance.reply_to in sizes:
            sizes[utterance.reply_to] += sizes[utterance.id]
    return sizes


def write_sample(folder: Path, *, conversations: int = 4000, seed: int = 0) -> None:
    """Write a ConvoKit corpus of `conversations` threads into the existing, empty folder `folder`."""
    dice = Dice(seed)
    subreddits = [Subreddit(name) for name in sorted(THINGS)]
    pool = words(SPEAKERS)
    threads = [Thread(number, dice.pick(subreddits), dice, pool) for number in range(conversations)]
    for thread in threads:
        thread.grow()
    restore_parents(threads)
    speakers = sorted({utterance.speaker for thread in threads for utterance in thread.utterances})

    lines = [line for thread in threads for line in thread.utterance_lines()]
    (folder / "utterances.jsonl").write_bytes("".join(line + "\n" for line in lines).encode("ascii"))
    index = {
        "utterances-index": {
            "score": ["<class 'int'>"],
            "top_level_comment": ["<class 'str'>"],
            "subreddit": ["<class 'str'>"],
            "stickied": ["<class 'bool'>"],
            "score_hidden": ["<class 'bool'>"],
        },
        "speakers-index": {},
        "conversations-index": {
            "title": ["<class 'str'>"],
            "subreddit": ["<class 'str'>"],
            "num_comments": ["<class 'int'>"],
        },
        "overall-index": {"name": ["<class 'str'>"]},
        "version": 1,
        "vectors": [],
    }
    for name, content in (
        ("conversations", {thread.id: {"meta": thread.meta(), "vectors": []} for thread in threads}),
        ("speakers", {speaker: {"meta": {}, "vectors": []} for speaker in speakers}),
        ("corpus", {"name": "sample"}),
        ("index", index),
    ):
        (folder / f"{name}.json").write_bytes(json.dumps(content, allow_nan=False).encode("ascii"))
