"""A slow, obvious reference implementation of the dataset `preferences`, on top of the tests' oracle of ranking.

It follows docs/reference/preferences.md: groups, prompts, and one function a configuration. Every pair of a group is
looked at, and every prompt is written by following `reply_to` upwards.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise, permutations
from typing import Any

from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline_tests.oracle import Ranking, Row, Utterance, by_conversation, pseudonyms, split

# Replies with their ranks. Ranked replies have a score, which `Utterance` leaves open.
Group = list[tuple[int, Any]]


def is_visible(text: str) -> bool:
    """Whether a text has a character that is no white space, control or format character."""
    return any(unicodedata.category(char)[0] not in "Z" and unicodedata.category(char) not in HIDDEN for char in text)


HIDDEN = ("Cc", "Cf", "Co", "Cs")


def digest(seed: int, id: str) -> int:
    return int(hashlib.md5(f"{seed}:preferences:{id}".encode()).hexdigest()[:8], 16)


class Oracle:
    """The rows of all configurations, by configuration and split, in the order of the dataset."""

    def __init__(self, ranking: Ranking, settings: PreferenceSettings) -> None:
        self.settings, self.ranking = settings, ranking
        names = ("pairs", "groups", "triples", "verdicts", "privileged", "messages")
        self.rows: dict[str, dict[str, list[Row]]] = {
            name: {part: [] for part in ("train", "validation", "test")} for name in names
        }
        conversations = by_conversation(ranking.taking_part.values())
        order = lambda root: (hashlib.md5(root.conversation_id.encode()).hexdigest(), root.conversation_id)  # noqa: E731
        for root in sorted(ranking.roots, key=order):
            self.root, self.conversation = root, conversations[root.conversation_id]
            self.names = pseudonyms(root, self.conversation.values())
            if self.takes_part(root):
                self.add_conversation()

    # --- What takes part

    def takes_part(self, root: Utterance) -> bool:
        settings = self.settings
        if not is_visible(self.content(root)) or (settings.self_posts_only and not root.text):
            return False
        return self.fits(root) and (
            settings.min_root_score is None or (root.score is not None and root.score >= settings.min_root_score)
        )

    def fits(self, utterance: Utterance) -> bool:
        """Return whether an utterance, and all that it answers up to the root, has a text that the settings allow."""
        text, most = self.content(utterance), self.settings.max_words
        if most is not None and len(re.findall(r"[^\t\n\f\r ]+", text)) > most:
            return False
        if self.settings.exclude_quotations and (">" in text or "&gt;" in text):
            return False
        return utterance is self.root or self.fits(self.conversation[utterance.reply_to or ""])

    def usable(self, reply: Utterance) -> bool:
        settings = self.settings
        if settings.top_level_only and reply.reply_to != self.root.id:
            return False
        return (
            is_visible(reply.text)
            and self.fits(reply)
            and not (settings.exclude_root_speaker and reply.speaker == self.root.speaker)
        )

    def replies_to(self, utterance: Utterance) -> Group:
        """Return the usable replies with their ranks among all."""
        return [(rank, u) for rank, u in enumerate(self.ranking.replies.get(utterance.id, []), 1) if self.usable(u)]

    def add_conversation(self) -> None:
        for answered in sorted(self.conversation.values(), key=lambda u: u.id.encode()):
            if len(self.ranking.replies.get(answered.id, [])) < 2 or not is_visible(self.content(answered)):
                continue
            group = sorted(self.replies_to(answered), key=lambda each: (-each[1].score, each[0]))
            if group and group[0][1].score != group[-1][1].score:
                for name, function in self.of_groups().items():
                    for row in function(answered, group):
                        self.add(name, row)
        path = self.best_path()
        if path:
            messages = [
                {"role": "user", "content": self.segment(u)}
                if turn % 2 == 0
                else {"role": "assistant", "content": u.text}
                for turn, u in enumerate(path)
            ]
            if self.settings.source == "in_prompt":
                messages[0]["content"] = f"Community: {self.root.source}\n\n{messages[0]['content']}"
            self.add("messages", {"messages": messages})

    def of_groups(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "groups": self.groups,
            "triples": self.triples,
            "verdicts": self.verdicts,
            "privileged": self.privileged,
        }

    def add(self, name: str, row: Row) -> None:
        origin = {"source": self.root.source, "conversation_id": self.root.conversation_id}
        self.rows[name][split(self.root.conversation_id, self.settings.shares)].append(row | origin)

    # --- Prompts

    def content(self, utterance: Utterance) -> str:
        if utterance.reply_to is None or utterance is getattr(self, "root", None):
            return "\n".join(part for part in (utterance.title, utterance.text) if part)
        return utterance.text

    def segment(self, utterance: Utterance) -> str:
        name = {"none": None, "names": utterance.speaker, "pseudonyms": self.names[utterance.speaker]}
        speaker = name[self.settings.speakers]
        return ("" if speaker is None else speaker + "\n") + self.content(utterance)

    def prompt(self, answered: Utterance) -> Any:
        path = [answered]
        while path[0] is not self.root:
            path.insert(0, self.conversation[path[0].reply_to or ""])
        limit = self.settings.max_characters
        most = limit if answered is self.root else limit // 2
        texts = [self.segment(u)[:most] for u in path]
        # The root and the utterance that is answered, then the others from the last one up, as far as they fit.
        kept: list[str] = []
        characters = len(texts[0]) + (len(texts[-1]) if len(texts) > 1 else 0)
        for text in reversed(texts[1:-1]):
            characters += len(text)
            if characters > limit or len(kept) + 3 > self.settings.max_turns:
                break
            kept.insert(0, text)
        contents = [texts[0], *kept, *texts[1:][-1:]]
        if self.settings.source == "in_prompt":
            contents[0] = f"Community: {self.root.source}\n\n{contents[0]}"
        if self.settings.form == "text":
            return "".join(text + "\n\n" for text in contents)
        roles = ("user", "assistant")
        back = len(contents) - 1
        return [{"role": roles[(back - turn) % 2], "content": text} for turn, text in enumerate(contents)]

    def completion(self, reply: Utterance) -> Any:
        return reply.text if self.settings.form == "text" else [{"role": "assistant", "content": reply.text}]

    # --- Configurations. `group` is sorted by score, the best first, then by rank.

    def by_digest(self, group: Group) -> Group:
        return sorted(group, key=lambda each: (digest(self.settings.seed, each[1].id), each[0]))

    def compared(self, group: Group) -> Iterator[tuple[Any, Any]]:
        """Yield the replies that the setting `pairs` compares, in both orders."""
        match self.settings.pairs:
            case "all":
                yield from permutations(self.by_digest(group)[: self.settings.replies_per_group], 2)
            case "best-rest":
                yield from ((group[0], other) for other in group[1:])
            case "adjacent":
                yield from pairwise(group)
            case "consecutive":
                for a, b in pairwise(sorted(group, key=lambda each: (each[1].timestamp, each[1].id.encode()))):
                    yield from ((a, b), (b, a))

    def pairs(self, answered: Utterance, group: Group) -> list[Row]:
        settings, found = self.settings, []
        for (rank_c, c), (rank_r, r) in self.compared(group):
            apart = c.timestamp - r.timestamp
            ratio = settings.min_score_ratio
            if (
                c.score - r.score < settings.min_score_gap
                or (ratio is not None and not (c.score > 0 and float(c.score) >= ratio * float(r.score)))
                or (settings.within_seconds is not None and abs(apart) > settings.within_seconds)
                or (settings.later_only and apart < 0)
            ):
                continue
            row = {
                "prompt": self.prompt(answered),
                "chosen": self.completion(c),
                "rejected": self.completion(r),
                "score_chosen": c.score,
                "score_rejected": r.score,
                "score_gap": min(c.score - r.score, 2**63 - 1),
                "chosen_id": c.id,
                "rejected_id": r.id,
                "rank_chosen": rank_c,
                "rank_rejected": rank_r,
                "seconds_apart": abs(apart),
                "chosen_is_later": apart > 0,
            }
            if settings.margin == "log":
                row["margin"] = min(math.log(max(c.score, 1) / max(r.score, 1)), 3.0)
            key = (digest(settings.seed, c.id) + digest(settings.seed, r.id)) % 2**32
            found.append(((key, rank_c, rank_r), row))
        kept = sorted(found, key=lambda each: each[0])[: settings.pairs_per_group]
        return [row for _, row in sorted(kept, key=lambda each: each[0][1:])]

    def groups(self, answered: Utterance, group: Group) -> list[Row]:
        answers = [
            {"answer": u.text, "rank": rank, "score": u.score, "id": u.id, "time": u.timestamp}
            for rank, u in sorted(group, key=lambda each: each[0])
        ]
        return [{"prompt": self.prompt(answered), "answers": answers}]

    def triples(self, answered: Utterance, group: Group) -> list[Row]:
        (_, best), (_, second), (_, worst) = group[0], group[1], group[-1]
        if not best.score > second.score > worst.score:
            return []
        texts = {"reference": best, "chosen": second, "rejected": worst}
        return [{"prompt": self.prompt(answered)} | {name: self.completion(u) for name, u in texts.items()}]

    def rejected(self, group: Group) -> Group:
        """Return the replies below the best that are shown, the better ones first."""
        below = [each for each in group if each[1].score < group[0][1].score]
        chosen = self.by_digest(below)[: self.settings.pairs_per_group]
        return [each for each in group if each in chosen]

    def verdicts(self, answered: Utterance, group: Group) -> list[Row]:
        return [
            {"prompt": self.prompt(answered), "completion": self.completion(u), "label": u is group[0][1]}
            for _, u in [group[0], *self.rejected(group)]
        ]

    def privileged(self, answered: Utterance, group: Group) -> list[Row]:
        best = group[0][1]
        if self.settings.privileged == "rejected":
            heading, seen = "Other replies, which readers rated lower:", self.rejected(group)
        else:
            heading, seen = "What the reply was answered with:", self.replies_to(best)[: self.settings.pairs_per_group]
        if not seen:
            return []
        context = "\n\n".join([heading, *(u.text for _, u in seen)])
        row = {"prompt": self.prompt(answered), "completion": self.completion(best), "privileged_context": context}
        return [row]

    def best_path(self) -> list[Utterance]:
        path = [self.root]
        while (replies := self.ranking.replies.get(path[-1].id, [])) and self.usable(replies[0]):
            path.append(replies[0])
        return path[: len(path) // 2 * 2]
