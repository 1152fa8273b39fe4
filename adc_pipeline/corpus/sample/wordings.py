"""Vocabulary and wordings of the sample corpus.

Every combination of the nouns of a subreddit gives a sensible sentence. Changing a word changes the bytes of the sample
and of all datasets that are made from it.
"""

from typing import Literal

Role = Literal["advice", "report"]

# Vocabulary of each subreddit: things with a fault; causes with a fault and an action; tools for the action. With one
# fault and at most one action per noun, every combination of nouns gives a sensible sentence.
THINGS: dict[str, str] = {
    "fixitbench": "kettle drips, lamp flickers, toaster smokes, radio crackles, fan rattles, clock stops, "
    "mixer stalls, heater hums, iron spits, doorbell buzzes",
    "bikelane": "brake squeals, saddle tilts, wheel wobbles, pedal clicks, bell rattles, gear skips, "
    "basket swings, fork creaks, dynamo hums, mudguard scrapes",
    "gardenshed": "basil wilts, tomato splits, fern browns, rose droops, hedge thins, lawn yellows, "
    "lemon shrinks, lily leans, pumpkin stalls, lavender fades",
    "breadtable": "crust cracks, crumb tightens, loaf bursts, bagel wrinkles, brioche collapses, bun flattens, "
    "scone crumbles, baguette bends, pie leaks, tart shrinks",
}
CAUSES: dict[str, str] = {
    "fixitbench": "fuse blows swap, plug burns clean, switch sticks loosen, spring jams stretch, "
    "seal leaks replace, motor stutters cool, belt slips tighten, filter clogs rinse, dial drifts align, "
    "cable frays wrap, valve blocks open, screw turns fasten",
    "bikelane": "chain rusts scrub, spoke pings tighten, axle bends centre, rim rubs sand, bearing grinds pack, "
    "cable frays wrap, bolt turns fasten, pad wears swap, tube hisses patch, hub sticks loosen, "
    "clamp slips adjust, spring jams stretch",
    "gardenshed": "soil hardens loosen, compost smells turn, hose kinks patch, pot floods drain, "
    "trellis bends fasten, gutter clogs rinse, mulch moulds spread, root rots trim, pump stutters clean, "
    "frame warps cover, drain blocks open, bed sinks fill",
    "breadtable": "dough spreads fold, starter sinks feed, oven burns cool, stone sweats dust, yeast sticks warm, "
    "flour clumps sift, butter melts chill, glaze peels thin, tin warps line, filling leaks bind, "
    "sponge dries soak, knife slips wrap",
}
TOOLS: dict[str, str] = {
    "fixitbench": "vinegar, soap, tape, glue, oil, wax, gloves, tweezers, sandpaper, cotton, chalk, pliers",
    "bikelane": "grease, talc, pliers, rags, soap, tape, wax, string, foil, cork, sandpaper, oil",
    "gardenshed": "ash, sand, gravel, straw, string, netting, gloves, shears, bark, coffee, water, chalk",
    "breadtable": "milk, honey, salt, cream, water, semolina, paper, ice, malt, rye, foil, sugar",
}
SPEAKERS = """oats, rook, wren, fig, lark, otto, zinc, dune, gull, kelp, moss, pip, sable, quill, tansy, umber, birch,
    clove, ember, flint, hazel, jasper, linen, maple, nettle, olive, pebble, reed, saffron, thistle, vesper, willow,
    yarrow, bramble, cobalt"""

# Wordings by role and quality. {p} is the parent's noun and {pf} its fault; {n} is the noun that siblings share, {f}
# its fault and, for a cause, {a} its action ({A} at the start of a sentence); {t} is the siblings' tool; {x} is
# a thing from another subreddit. Lengths overlap between qualities, so that length alone does not predict the quality.
WORDINGS: dict[Role, tuple[tuple[str, ...], ...]] = {
    "advice": (
        (
            "Just throw the {p} out.",
            "Nobody needs this. Stop asking about the {p} every single week.",
            "Who cares. Use the search, this was asked a hundred times before.",
            "Off topic, but does anyone here want to buy my old {x}?",
            "Sounds like your own fault. Read the manual next time, genius.",
            "What a boring thread. I would rather talk about my {x}.",
            "lol",
        ),
        (
            "Same here, and I have no idea why.",
            "Following, I want to know this too.",
            "My {p} does that as well. I gave up on it long ago.",
            "It depends. There are so many things that it could be, who knows.",
            "No idea, sorry. My {p} never did that, or I never noticed.",
            "Strange. I hope that someone else can say more about the {p}.",
        ),
        (
            "Maybe the {n}? I did something with {t} once.",
            "Could be the {n}, could be something else.",
            "Hard to say. I guess the {n}, but I never had a {p} like that.",
            "Someone told me that it is the {n}. Perhaps with {t}?",
            "I think I read about the {n} here, and something with {t}.",
        ),
        (
            "{A} the {n} with {t}. That helped my {p}.",
            "I would {a} the {n} first, best with {t}.",
            "Probably the {n}, it often {f}. Try it with {t}.",
            "It was the {n} for me. I had to {a} it with {t}.",
        ),
        (
            "Check the {n} first. If it {f}, the {p} {pf} too. {A} it with {t}.",
            "Most likely the {n}: when it {f}, the {p} {pf}. {A} it with {t}.",
            "The {n} {f}, so the {p} {pf}. {A} it with {t}.",
            "{A} the {n} with {t}. The {p} {pf} because the {n} {f}.",
        ),
    ),
    "report": (
        (
            "Wrong. It is never the {p}.",
            "You clearly know nothing about the {p}, so why do you even answer?",
            "Worst advice of the week. Go away and take the {p} with you.",
            "Nobody asked you. I would rather listen to my {x}.",
            "Nonsense.",
        ),
        (
            "Okay.",
            "Hm, the {p}, really?",
            "I will see. Did not have time for the {p} yet.",
            "Too much work for me, I think I will leave it as it is.",
            "I always forget what to do with the {p}. Someone should write this down.",
        ),
        (
            "The {p} is a bit better. Maybe it is the {n} now.",
            "Not sure about the {p}. Did you mean the {n}, or with {t}?",
            "Will look at the {p} some day, then perhaps at the {n}.",
            "I did something to the {p} with {t}. I guess the {n} is next.",
        ),
        (
            "That fixed the {p}. Now the {n} {f}, with {t} or without.",
            "The {p} is fine again. But the {n} {f}.",
            "Did the {p} as you said. Now the {n}, is that done with {t}?",
            "The {p} works. Can I treat the {n} with {t} as well?",
        ),
        (
            "Thanks, the {p} is fine now. Only the {n} {f}, even with {t}.",
            "Great tip, the {p} works. One more thing: the {n} {f}. I tried it with {t}.",
            "Thank you! The {p} was it. Since then the {n} {f}. Should I go on with {t}?",
            "That was clear, thank you. The {p} is fine. The {n} {f}, is that also done with {t}?",
        ),
    ),
}
# Small talk before and after the wording, by quality.
OPENERS: tuple[tuple[str, ...], ...] = (
    ("Ugh.", "Not this again.", "Seriously?", "I stopped reading there."),
    ("Oh no.", "Hm.", "Huh.", "Well."),
    ("Hm.", "Just a guess.", "I am new here.", "Well."),
    ("Hi!", "Had that too.", "Easy one.", "Happens a lot."),
    ("Hi!", "Welcome!", "Good question.", "Had that too."),
)
CLOSERS: tuple[tuple[str, ...], ...] = (
    ("Whatever.", "I have better things to do today.", "Bye.", "This place was better last year, all of it."),
    ("Anyway.", "It has been a long week here.", "Sorry that I cannot help.", "Tell me if you find out."),
    ("But I am not sure.", "Or not.", "Ask someone who knows.", "No promises."),
    ("Good luck!", "Works for me.", "Cheap and quick.", "Takes no time."),
    ("Good luck!", "Hope it helps.", "Tell us how it went.", "Works every time."),
)
# Openings of replies after a thread's first advice and first report: stages 3, 4, 5, and 6 or later. Without them, the
# text after a marker would depend on the parity of the turn's role and its verdict, which a two-layer model still
# predicted at chance level after 500,000 tokens.
AGAIN: tuple[tuple[str, ...], ...] = (
    ("As for the {p}:", "About the {p}:", "Then, for the {p}:"),
    ("Update on the {p}:", "Back to the {p}:", "Two days later:"),
    ("Last try for the {p}:", "If the {p} is next:", "Still the {p}?"),
    ("Final word on the {p}:", "A month later:", "So much for the {p}:"),
)
TITLES = ("My {p} {pf}", "Why the {p} {pf}", "Help, the {p} {pf}", "The {p} again")
QUESTIONS = ("What can I try?", "Where do I start?", "Any ideas?", "Is that normal?")
# Irregular text, by kind; each kind is appended to about one reply in a hundred or fewer.
UNICODE = ("🙂", "Greetings from Málaga!", "The café owner taught me that.", "Naïve question, I know 😅")
MARKUP = ("Salt &amp; patience.", "See the guide -&gt; page 2.", "**Edit:** typo.")
MARKERS = ("Can a mod mark this <accepted>?", "My last tip was <rejected>.", "More <background> please.")
