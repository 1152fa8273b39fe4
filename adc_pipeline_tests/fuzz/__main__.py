"""Fuzz the data path. `python -m adc_pipeline_tests.fuzz --seconds 600`.

Each example is a small corpus of some format with changed bytes or values (`fuzz.inputs`), which goes through readers,
`utterances`, `ranked_replies` and both datasets. It must end with a PipelineError, or with datasets whose invariants
hold (`fuzz.pipeline`). Anything else is a finding: it is printed with its traceback, its files are kept in `--keep`,
and the process goes on. An example that takes longer than a minute of CPU time, or ten minutes by the clock, ends the
process with a traceback.
"""

import argparse
import faulthandler
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from hypothesis.errors import NonInteractiveExampleWarning

from adc_pipeline_tests.fuzz.inputs import FORMATS, Input, inputs
from adc_pipeline_tests.fuzz.pipeline import outcome

CPU_SECONDS_TO_HANG, SECONDS_TO_HANG = 60, 600


def attempt(given: Input, work: Path, format: str) -> str:
    """Return the outcome of one example: "built", "refused" or a traceback."""
    faulthandler.dump_traceback_later(SECONDS_TO_HANG, exit=True)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_TO_HANG)
    try:
        return "built" if outcome(given, work, format) == "built" else "refused"  # type: ignore[arg-type]
    except Exception:
        return traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m adc_pipeline_tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="CPU time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-finds"), help="folder for the corpora of findings")
    given = parser.parse_args()
    # A crash in a library's own code, whose corpus stays in the temporary folder.
    faulthandler.enable()
    # The traceback, then the default action: the end of the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    warnings.simplefilter("ignore", NonInteractiveExampleWarning)
    rng, began = random.Random(given.seed), time.monotonic()
    counts: Counter[str] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    places: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="adc-fuzz-") as name:
        while time.process_time() < given.seconds:
            for example in examples(rng):
                number = counts.total()
                work = Path(name) / str(number)
                result = attempt(example, work, rng.choice(["default", "released"]))
                counts[result if result in ("built", "refused") else "found"] += 1
                kinds[example.kind, result if result in ("built", "refused") else "found"] += 1
                if result not in ("built", "refused"):
                    place = result.strip().splitlines()[-1][:100]
                    places[place] += 1
                    if places[place] == 1:
                        kept = given.keep / str(number)
                        shutil.rmtree(kept, ignore_errors=True)
                        shutil.copytree(work / "given", kept)
                        how = f"{example.named}, {example.format}, {example.columns}, {example.stages}"
                        print(f"Example {number} ({how}), kept in {kept}:\n{result}", flush=True)
                shutil.rmtree(work, ignore_errors=True)
                if time.process_time() > given.seconds:
                    break
            print(f"{time.process_time():.0f} s of CPU time: {dict(counts)}", flush=True)
    seconds = time.monotonic() - began
    print(
        f"Seed {given.seed}: {counts.total()} corpora in {seconds:.0f} s ({time.process_time():.0f} s of CPU time),"
        f" {counts['built']} built,"
        f" {counts['refused']} refused with a sentence, {counts['found']} findings."
    )
    for kind in FORMATS:
        print(f"{kind:>10}: {kinds[kind, 'built']:>5} built {kinds[kind, 'refused']:>5} refused")
    for place, times in places.most_common():
        print(f"{times:>6}  {place}")
    return 1 if counts["found"] else 0


def examples(rng: random.Random) -> list[Input]:
    """Draw some examples; a batch costs less than single draws."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[Input] = []

    @seed(rng.getrandbits(64))
    @settings(
        max_examples=100, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(inputs())
    def collect(example: Input) -> None:
        found.append(example)

    collect()
    return found


if __name__ == "__main__":
    sys.exit(main())
