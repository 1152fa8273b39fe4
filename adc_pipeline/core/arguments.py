"""A parser of command-line arguments whose messages cannot steer a terminal and show no secret."""

import argparse
from typing import NoReturn

from adc_pipeline.core.secrets import masked
from adc_pipeline.core.terminal import printable


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, which repeats wrong arguments escaped and without secrets."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(masked(message)))
