"""Talk with a model: `python -m adc_pipeline.generate --model models:/adc-top-2@latest`.

At a terminal it asks for a post, writes a reply, and goes on as the user judges it: a rejected reply stays in
the conversation, where the next one sees it; an accepted one is answered, by the user or by the model.
Otherwise it reads the post from standard input and writes the text of one reply to standard output. 8 s for
a reply of the small model from a folder, 13 s from MLflow, nearly all of it imports.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from adc_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from adc_pipeline.generation.conversation import Conversation
    from adc_pipeline.generation.decoding import Sampling
    from adc_pipeline.generation.replier import Replier, Reply


def parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the command's options; `Sampling` has the defaults of those that are not given."""
    made = argparse.ArgumentParser(
        prog=program,
        description="Talk with a model that this pipeline trained. The first line of a post is its title. With"
        " standard input from a file or a pipe: one post in, one reply out.",
    )
    made.add_argument("--model", required=True, help="models:/NAME@latest, runs:/RUN/NAME, a folder, or a Hub name")
    made.add_argument("--speaker", default="user1", help="who writes the post (default: %(default)s)")
    made.add_argument(
        "--rejected",
        action="append",
        default=[],
        metavar="FILE",
        type=argparse.FileType("r", encoding="utf-8", errors="replace"),
        help="without a terminal: a reply that will not do; may be repeated",
    )
    made.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: 0.8)")
    made.add_argument("--top-p", type=float, help="draw from the likeliest tokens of this share (default: 0.95)")
    made.add_argument(
        "--max-new-tokens", type=int, help="longest reply, at most half of what the model reads at once (default: 200)"
    )
    made.add_argument("--seed", type=int, help="the same replies for the same seed and input (default: none)")
    return made


@dataclass
class Screen:
    """Writes a turn piece by piece: its text and, where `heading`, the speaker's name on a line before it."""

    out: TextIO
    speaks: bool
    heading: bool
    line: str = ""  # the speaker's line as far as it has come
    in_text: bool = False

    def show(self, piece: str) -> None:
        """Show more of a turn as it is spelt."""
        if not self.in_text and self.speaks:
            speaker, line_break, piece = (self.line + piece).partition("\n")
            self.line = speaker
            if not line_break:
                return
            if self.heading:
                self.write(f"{speaker}:\n")
        self.in_text = True
        self.write(piece)

    def end(self) -> None:
        """End the turn's last line; a turn that was cut before its text is its speaker's line alone."""
        if not self.in_text:
            self.write(self.line)
        self.write("\n")

    def write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


def answered(replier: "Replier", conversation: "Conversation", sampling: "Sampling", heading: bool) -> "Reply":
    """A reply, shown as it is written."""
    screen = Screen(sys.stdout, replier.spelling.speaks, heading)
    reply = replier.reply(conversation, sampling, screen.show)
    screen.end()
    return reply


def talk(replier: "Replier", sampling: "Sampling", speaker: str) -> None:
    """A conversation at a terminal, until the user quits."""
    print("Your post: the title, then the text; an empty line ends it.")
    conversation = replier.about("\n".join(asked_lines()), speaker)
    while True:
        print()
        reply = answered(replier, conversation, sampling, heading=True)
        print()
        choice = ""
        while choice not in ("a", "r", "q"):
            choice = input("[a]ccept, [r]eject, [q]uit: ").strip().lower()[:1]
        if choice == "q":
            return
        conversation = replier.judged(conversation, reply, "accepted" if choice == "a" else "rejected")
        if choice == "a":
            print("Your reply, an empty line ends it; leave it empty to let the model go on.")
            if own := "\n".join(asked_lines()).strip():
                conversation = replier.with_turn(conversation, own, "accepted", speaker)


def asked_lines() -> list[str]:
    """What the user types up to an empty line."""
    lines: list[str] = []
    while line := input("> "):
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None, program: str = "python -m adc_pipeline.generate") -> int:
    """Run the command `program` and return its exit status; `arguments` are the process' own if None."""
    options = parser(program).parse_args(arguments)
    if sys.stdin is None or sys.stdout is None:
        print("Standard input or output is closed; give the post by a file or a pipe.", file=sys.stderr)
        return 2
    at_terminal = sys.stdin.isatty()
    for stream in (sys.stdin, sys.stdout):
        # A text is UTF-8 whatever the locale, and a byte that is not must not end the conversation.
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    try:
        # Imported here, so that a wrong option is refused without waiting for torch.
        from adc_pipeline.generation.address import located

        post = "" if at_terminal else sys.stdin.read()
        with located(options.model) as place:
            from adc_pipeline.generation.decoding import Sampling
            from adc_pipeline.generation.replier import Replier

            names = ("temperature", "top_p", "max_new_tokens", "seed")
            given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
            sampling = Sampling(**given)
            replier = Replier.load(place)
        if at_terminal:
            talk(replier, sampling, options.speaker)
        else:
            conversation = replier.about(post, options.speaker)
            for file in options.rejected:
                conversation = replier.with_turn(conversation, file.read(), "rejected")
            answered(replier, conversation, sampling, heading=False)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    except EOFError:
        print()
    except KeyboardInterrupt:
        print()
        return 130
    except BrokenPipeError:
        # The reader has had enough; nothing is left to be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
