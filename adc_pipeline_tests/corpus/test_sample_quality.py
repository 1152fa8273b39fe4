"""Every reply of the sample has the quality that its writer drew; a text of another kind has none."""

import html

import pytest

from adc_pipeline.corpus.sample.quality import quality
from adc_pipeline.corpus.sample.threads import Dice, Subreddit, Thread, words
from adc_pipeline.corpus.sample.wordings import SPEAKERS, THINGS


def test_every_reply_of_the_sample_has_the_quality_that_it_was_written_with() -> None:
    dice = Dice(3)
    threads = [Thread(number, Subreddit(name), dice, words(SPEAKERS)) for number, name in enumerate([*THINGS] * 60)]
    levels = set()
    for thread in threads:
        thread.grow()
        for reply in thread.utterances[1:]:
            if reply.text in ("[deleted]", "[removed]") or reply.speaker == "AutoModerator":
                assert quality(reply.text) is None
                continue
            assert quality(reply.text) == reply.level, reply.text
            # As in a dataset: entities decoded, markers that users wrote neutralised.
            assert quality(html.unescape(reply.text).replace("<", "‹").replace(">", "›")) == reply.level
            levels.add(reply.level)
    assert levels == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Swap the fuse with soap. The kettle drips because the fuse blows.", 4),
        ("Hi! I would swap the fuse first, best with vinegar. Good luck!", 3),
        # Small talk of another quality, as the writer does one time in ten.
        ("Ugh. Swap the fuse with soap. That helped my kettle. Bye.", 3),
        ("Final word on the kettle: Could be the fuse, could be something else.", 2),
        ("Same here, and I have no idea why.", 1),
        ("Just throw the kettle out. Salt &amp; patience. My last tip was <rejected>.", 0),
        # The parts of the sentence do not belong together.
        ("Swap the fuse with soap. The kettle drips because the fuse drips.", None),
        ("Swap the plug with soap. That helped my kettle.", None),
        ("Check the fuse first. If it blows, the kettle hums too. Swap it with soap.", None),
        # Cut, doubled, of other words, or no reply at all.
        ("Swap the fuse with", None),
        ("Just throw the kettle out. Just throw the kettle out.", None),
        ("Just throw the teapot out.", None),
        ("", None),
        ("Swap the fuse with soap. That helped my kettle.\nrook", None),
    ],
)
def test_a_text_has_the_quality_of_its_wording_or_none(text: str, expected: int | None) -> None:
    assert quality(text) == expected
