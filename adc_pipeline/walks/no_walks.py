"""Refuse a dataset without any walk: it would pass for a success, and the reason is known from the counts."""

from collections.abc import Mapping

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.corpus.utterances import correction

# What a reason for dropping a reply means, and what to do about it.
DROPPED = {
    "score_hidden": (
        "because their scores are hidden",
        "take a later recording of the corpus, or set score_hidden of ranked_replies to false",
    ),
    "deleted": ("because they are deleted", "take an earlier recording of the corpus, or set deleted to false"),
    "empty": ("because their texts are empty", "check the column of texts, or set empty to false"),
    "min_age_hours": (
        "because their scores were recorded too early",
        "take a later recording of the corpus, or lower min_age_hours",
    ),
}


def refuse_no_walks(
    walks: Mapping[str, float], utterances: Mapping[str, float], ranked_replies: Mapping[str, float]
) -> None:
    """Raise PipelineError, with the counts that explain it, if there are no walks; takes the counts of three stages."""
    if walks["walks"]:
        return
    roots, replies = int(utterances["roots"]), int(utterances["taking_part"] - utterances["roots"])
    aside = reasons(utterances, "set_aside.")
    if not replies:
        lost = f", and {listed(aside)} are set aside" if aside else ""
        nothing = f"nothing answers the {roots:,} roots of the corpus, which has no replies"
        missing = "the file of the replies or comments"
        adopted = int(utterances.get("adopted_roots", 0))
        outside = aside.get("root_outside", 0) > sum(aside.values()) / 2
        if aside and not outside and not adopted:
            raise PipelineError(
                f"There is no walk: of {int(utterances['read']):,} utterances, {listed(aside)} are set aside, and the"
                f" others are no replies: {correction(utterances, {}).removesuffix(', ').strip()}."
            )
        if roots and adopted == roots:
            nothing = f"the {roots:,} roots are replies themselves, whose posts are not in the corpus"
            missing = "the file of the posts"
        elif adopted:
            nothing = (
                f"nothing answers the {roots:,} roots of the corpus, {adopted:,} of which answer what is not in it, at"
                " least not under that id"
            )
            missing = "what they answer, with ids that are spelled as the replies spell them,"
        elif outside:
            missing = "the posts that the replies answer, those of the same months, say,"
        raise PipelineError(
            f"There is no walk: {nothing}{lost}. Give the setting corpus (or ADC_CORPUS) {missing} as well, or the"
            " folder that holds both."
        )
    dropped = reasons(ranked_replies, "dropped.")
    most = max(dropped, key=lambda reason: dropped[reason], default="")
    because, advice = DROPPED.get(most, (f"for the reason {most}", "change the filters of ranked_replies"))
    raise PipelineError(
        f"There is no walk: all {replies:,} replies to the {roots:,} roots are dropped ({listed(dropped)}), most of"
        f" them {because}: {advice}."
    )


def reasons(counts: Mapping[str, float], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): int(number) for name, number in counts.items() if name.startswith(prefix)}


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())
