"""A parser of command-line arguments whose messages cannot steer a terminal."""

import argparse
from typing import NoReturn

from adc_pipeline.core.terminal import printable


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, which repeats wrong arguments in its messages, with control characters escaped."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))
