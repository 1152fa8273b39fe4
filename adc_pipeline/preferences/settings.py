"""Settings of the asset `preferences`."""

from dataclasses import dataclass
from typing import Literal

from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.walks.rendering import Speakers, mentions_setting
from adc_pipeline.walks.splits import check_shares, shares_setting

Form = Literal["conversational", "text"]
Pairs = Literal["all", "best-rest", "adjacent", "consecutive"]
Privileged = Literal["rejected", "replies"]
SourceIn = Literal["none", "in_prompt"]
Margin = Literal["none", "log"]


@dataclass(frozen=True)
class PreferenceSettings(Settings):
    """Settings of the asset `preferences`; docs/reference/preferences.md has the source of each."""

    form: Form = setting(
        "conversational", "Prompts and completions as messages with roles (conversational) or as plain text."
    )
    speakers: Speakers = setting(
        "none", "How speakers appear in the contents of a prompt: none, names or pseudonyms (user1, user2, …)."
    )
    mentions: Speakers = mentions_setting()
    source: SourceIn = setting(
        "none", "Whether the first message of a prompt or dialogue names the community (in_prompt)."
    )
    max_turns: int = setting(
        16, "Utterances of a prompt at most: the root and the last ones before the reply.", minimum=2, maximum=1000
    )
    max_characters: int = setting(
        3000,
        "Characters of a prompt at most. The root and the utterance that is answered stay, each cut at half of it; the"
        " oldest of the others are left out first.",
        minimum=2,
    )
    pairs: Pairs = setting(
        "all",
        "Which replies make pairs: all, the best with each other one (best-rest), neighbours in score (adjacent) or"
        " neighbours in time (consecutive).",
    )
    pairs_per_group: int = setting(
        5,
        "Pairs from the replies to one utterance at most, and as many rejected replies in `verdicts` and `privileged`;"
        " chosen by hash.",
        minimum=1,
    )
    replies_per_group: int = setting(
        50, "Replies to one utterance that `pairs: all` compares at most; of more, so many chosen by hash.", minimum=2
    )
    min_score_gap: int = setting(1, "Make pairs whose scores differ by this or more.", minimum=1)
    min_score_ratio: float | None = setting(
        None,
        "Make pairs whose better score is above 0 and at least so many times the other one.",
        minimum=1,
        maximum=1_000_000,
    )
    within_seconds: int | None = setting(None, "Make pairs written at most so many seconds apart.", minimum=0)
    later_only: bool = setting(False, "Make pairs whose better reply was not written before the other one.")
    min_root_score: int | None = setting(None, "Use conversations whose root has this score or more.")
    self_posts_only: bool = setting(False, "Use conversations whose root has a text besides its title.")
    top_level_only: bool = setting(False, "Use replies to roots only.")
    exclude_root_speaker: bool = setting(False, "Exclude replies by the speaker of the root.")
    max_words: int | None = setting(
        None,
        "Use texts of at most so many words: a longer reply, or root, is excluded with all replies below.",
        minimum=1,
    )
    exclude_quotations: bool = setting(
        False, "Exclude texts with a > in them, with which a quotation begins, and all replies below."
    )
    margin: Margin = setting(
        "none", "Whether `pairs` has a column `margin`: the log of the scores' ratio, between 0 and 3 (log)."
    )
    privileged: Privileged = setting(
        "rejected", "What the teacher sees in `privileged`: rejected siblings, or the replies that the answer got."
    )
    seed: int = setting(0, "Seed of the hashes that choose pairs and replies.")
    shares: tuple[int, ...] = shares_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.shares)
