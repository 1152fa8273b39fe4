"""The kinds of walks, each declared once.

A kind makes three choices over ranked siblings: which reply is accepted, which replies are shown, and in what order.
Each choice is a SQL fragment; `datasets.py` inserts the fragments into the statements that all kinds share. Everything
downstream (assets, models, evaluations, champions, the comparison, the study) loops over `KINDS`, so that a new kind is
one entry here.

Columns that a fragment can use: of `ranked` and its alias `r`, `position`, `parent_position`, `reply_to` (the parent's
id), `id`, `rank`, `siblings`; of `path`, `accepted` (the rank of the accepted reply). `{coin}` stands for the kind's
coin of the utterance in `flipped`, and `{digest}` for the digest of that coin.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WalkKind:
    """A kind of walk: how it is drawn, and how cards, assets and reports describe it.

    `description` is the asset's, `summary` the dataset card's. `choices` is a query of `walk`, `parent`, `next` (the
    position of the accepted reply) and `accepted` (its rank), with one row for each walk and sibling group. `shown` is
    the WHERE or QUALIFY clause that keeps the replies that a walk shows, and `order` the expression that sorts them as
    in the text, the accepted one last. `flipped` names the column whose id is hashed into the coin, and `threshold` the
    smallest digest at which the coin does not come up. `promoted_by` is the metric that decides whether a new version
    becomes the champion. `reading` explains in the reports what the kind can teach, so that no figure is misread.
    """

    name: str
    description: str
    summary: str
    choices: str
    shown: str
    order: str
    flipped: str
    threshold: str
    promoted_by: str
    reading: str
    epochs: float = 2.0
    # Whether a verdict follows the ranks, and is no coin's.
    follows_ranks: bool = True

    @property
    def dataset(self) -> str:
        """The dataset's asset, such as `top_2`; the names of the other assets are derived from it."""
        return self.name.replace("-", "_")

    @property
    def model(self) -> str:
        return f"{self.dataset}_model"

    @property
    def evaluation(self) -> str:
        return f"{self.dataset}_evaluation"

    @property
    def champion(self) -> str:
        return f"{self.dataset}_champion"

    @property
    def registered(self) -> str:
        """The model's name in MLflow's registry, such as `adc-top-2`."""
        return f"adc-{self.name}"


TOP_2 = WalkKind(
    name="top-2",
    description="Walks that, two times in three, show the second-best reply, rejected, before the best, accepted.",
    summary=(
        "At each step of a walk, with probability 2/3 and where there are two or more replies, the second-best reply"
        " comes first, rejected, and then the best, accepted; otherwise only the best. A model trained on these walks"
        " sees rejected texts followed by better ones."
    ),
    choices="""
        SELECT walk, parent_position AS parent, position AS next, 1 AS accepted
        FROM ranked CROSS JOIN range($walks) AS drawn (walk) WHERE rank = 1
    """,
    # The coin does not decide the path, so it is flipped only for utterances on the path.
    shown="WHERE r.rank = 1 OR (r.rank = 2 AND {coin})",
    order="-r.rank",
    flipped="reply_to",
    # 16**32 * 2/3, rounded down
    threshold="a" * 32,
    promoted_by="preference_accuracy",
    reading="In top-2 the verdict follows the ranking, so preference accuracy is what it teaches.",
)

RANDOM_WALK = WalkKind(
    name="random-walk",
    description="Walks that flip a coin at each reply, best first: reject it, or accept it and go down.",
    summary=(
        "At each step of a walk, replies are taken from the best down, and a fair coin rejects or accepts each; the"
        " last one is always accepted. The verdicts are independent of the text, so a model trained on these walks can"
        " learn how a rejection changes the direction of a conversation, but not what makes a reply better."
    ),
    choices="""
        SELECT walk, parent, arg_min(position, rank) AS next, min(rank) AS accepted
        FROM (
            SELECT walk, parent_position AS parent, position, rank
            FROM ranked CROSS JOIN range($walks) AS drawn (walk)
            WHERE rank = siblings OR NOT {coin}
        ) GROUP BY walk, parent
    """,
    shown="WHERE r.rank <= path.accepted",
    order="r.rank",
    flipped="id",
    # 16**32 / 2
    threshold="8" + "0" * 31,
    promoted_by="steering",
    follows_ranks=False,
    reading=(
        "In random-walk the verdict is a coin that is independent of the text: its preference accuracy belongs near or"
        " below chance, and steering is what it can teach."
    ),
)

ASCENDING = WalkKind(
    name="ascending",
    description="Walks that show replies in random order, each only if it outranks all before it, up to the best.",
    summary=(
        "At each step of a walk, replies are taken in random order, and those that outrank all before them are shown:"
        " every one but the last is rejected, and the last, which is the best of all, is accepted. Along a history each"
        " text is better than those that were rejected before it, so a model trained on these walks can learn to"
        " improve on rejected texts."
    ),
    choices=TOP_2.choices,
    # A record of the random order: its rank is the smallest so far.
    shown="QUALIFY r.rank = min(r.rank) OVER (PARTITION BY path.walk, path.parent ORDER BY {digest})",
    order="-r.rank",
    flipped="id",
    threshold="",
    promoted_by="preference_accuracy",
    reading=(
        "In ascending each shown reply outranks those before it: it teaches preference accuracy as top-2 does, and it"
        " is the only kind that can teach a model to improve on rejected replies."
    ),
    # Its histories are longer; a small model needs more steps before it reads them.
    epochs=4.0,
)

KINDS: Mapping[str, WalkKind] = {kind.name: kind for kind in (TOP_2, RANDOM_WALK, ASCENDING)}
