"""Talk with a model: `python -m adc_pipeline.generate [--model models:/adc-top-2@latest]`.

At a terminal the command asks for a post, writes a reply, and asks for a verdict. A rejected reply stays in the
conversation as context for the next reply; an accepted reply is answered by the user or by the model. Without a
terminal, the command reads the post from standard input and writes the text of one reply to standard output. A reply of
the small model takes 8 s from a folder and 13 s from MLflow, nearly all of it for imports.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adc_pipeline.core.arguments import ArgumentParser
from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.named_files import file_problem
from adc_pipeline.core.signals import CANCELLED
from adc_pipeline.core.terminal import without_controls
from adc_pipeline.core.threads import wait_briefly
from adc_pipeline.walks.kinds import ASCENDING

if TYPE_CHECKING:
    from adc_pipeline.generation.conversation import Conversation
    from adc_pipeline.generation.decoding import Sampling
    from adc_pipeline.generation.replier import Replier, Reply


MOST_REJECTIONS = 100
POST = "Your post: the title, then the text; an empty line ends it."


def parser(program: str) -> ArgumentParser:
    """Return the parser of the command's options; defaults of the sampling options are those of `Sampling`."""
    made = ArgumentParser(
        prog=program,
        description="Talk with a model that this pipeline trained. The first line of a post is its title. With"
        " standard input from a file or a pipe: one post in, one reply out.",
    )
    made.add_argument(
        "--model",
        default=f"models:/{ASCENDING.registered}@latest",
        help="models:/NAME@latest, runs:/RUN/NAME, a folder, or a Hub name (default: %(default)s, which has learned to"
        " improve on rejected replies)",
    )
    made.add_argument("--speaker", default="user1", help="who writes the post (default: %(default)s)")
    made.add_argument(
        "--rejected",
        action="append",
        default=[],
        metavar="FILE",
        type=file_text,
        help="without a terminal: a reply that will not do; may be repeated",
    )
    made.add_argument(
        "--improve",
        type=rejections,
        default=0,
        metavar="K",
        help="reject the model's reply and write the next one, K times, and show all",
    )
    made.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: 0.8)")
    made.add_argument("--top-p", type=float, help="draw from the likeliest tokens of this share (default: 0.95)")
    made.add_argument(
        "--max-new-tokens", type=int, help="longest reply, at most half of what the model reads at once (default: 200)"
    )
    made.add_argument("--seed", type=int, help="the same replies for the same seed and input (default: none)")
    return made


def rejections(text: str) -> int:
    """Return how often a reply is rejected."""
    if not (text.isdecimal() and 0 < int(text) <= MOST_REJECTIONS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_REJECTIONS}")
    return int(text)


def file_text(name: str) -> str:
    """Return the text of a file that an option names; it has to be a regular file, since a FIFO might never end."""
    if problem := file_problem(Path(name)):
        raise argparse.ArgumentTypeError(f"{name} {problem}")
    return Path(name).read_text("utf-8", "replace")


@dataclass
class Screen:
    """Writes a turn piece by piece: its text and, with `heading`, the speaker's name on a line before it."""

    out: TextIO
    speaks: bool
    heading: bool
    line: str = ""  # the part of the speaker's line received so far
    in_text: bool = False

    def show(self, piece: str) -> None:
        """Write the next piece of a turn."""
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
        """End the turn's last line; a turn truncated before its text consists of its speaker's line."""
        if not self.in_text:
            self.write(self.line)
        self.write("\n")

    def write(self, text: str) -> None:
        self.out.write(without_controls(text))
        self.out.flush()


def answered(replier: "Replier", conversation: "Conversation", sampling: "Sampling", heading: bool) -> "Reply":
    """Generate a reply, write it to standard output piece by piece, and return it."""
    screen = Screen(sys.stdout, replier.spelling.speaks, heading)
    reply = replier.reply(conversation, sampling, screen.show)
    screen.end()
    return reply


def improve(replier: "Replier", conversation: "Conversation", sampling: "Sampling", rejections: int) -> None:
    """Write a reply, reject it, and write the next one, `rejections` times."""
    for k in range(rejections + 1):
        print(f"{f'after {k} rejected' if k else 'first reply'}:")
        reply = answered(replier, conversation, sampling, heading=True)
        if k < rejections:
            print()
            conversation = replier.judged(conversation, reply, "rejected")


def talk(replier: "Replier", sampling: "Sampling", speaker: str) -> None:
    """Hold a conversation at a terminal until the user quits."""
    print(POST)
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
    """Return the lines that the user types before an empty line."""
    lines: list[str] = []
    while line := input("> "):
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None, program: str = "python -m adc_pipeline.generate") -> int:
    """Run the command `program` and return its exit status; `arguments` default to those of the process."""
    options = parser(program).parse_args(arguments)
    wait_briefly()
    if sys.stdin is None or sys.stdout is None:
        print("Standard input or output is closed; give the post by a file or a pipe.", file=sys.stderr)
        return 2
    at_terminal = sys.stdin.isatty()
    for stream in (sys.stdin, sys.stdout):
        # Text is UTF-8 in every locale, and an invalid byte must not end the conversation.
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    try:
        # Imported here, so that an invalid option is reported without importing torch.
        from adc_pipeline.generation.address import located

        post = "" if at_terminal else sys.stdin.read()
        with located(options.model) as place:
            from adc_pipeline.generation.decoding import Sampling
            from adc_pipeline.generation.replier import Replier

            names = ("temperature", "top_p", "max_new_tokens", "seed")
            given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
            sampling = Sampling(**given)
            replier = Replier.load(place)
        if at_terminal and options.improve:
            print(POST)
            post = "\n".join(asked_lines())
        if at_terminal and not options.improve:
            talk(replier, sampling, options.speaker)
        else:
            conversation = replier.about(post, options.speaker)
            for text in options.rejected:
                conversation = replier.with_turn(conversation, text, "rejected")
            if options.improve:
                improve(replier, conversation, sampling, options.improve)
            else:
                answered(replier, conversation, sampling, heading=False)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    except EOFError:
        print()
    except KeyboardInterrupt:
        print()
        return CANCELLED
    except BrokenPipeError:
        # The reader closed the pipe. Redirect to the null device, so that the flush at exit does not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
