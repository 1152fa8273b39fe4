"""Configuration of the documentation site, built by Sphinx from Markdown (MyST).

    sphinx-build -W --keep-going docs docs/_build

Warnings are errors: a link to a page, heading or file that does not exist fails the build.
"""

import os
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]
# The reference pages import the definitions, which read settings from ADC_HOME; the site shows the defaults.
os.environ["ADC_HOME"] = str(Path(tempfile.gettempdir()) / "adc-documentation")

project = "adc_pipeline"
author = "the authors of adc_pipeline"
copyright = "the authors of adc_pipeline, MIT licence"
release = version = installed("adc-pipeline")

extensions = ["myst_parser", "sphinx_copybutton", "adc_reference", "adc_errors"]
exclude_patterns = ["_build", "_extensions", "_static"]
# Headings get GitHub's anchors, so that the links also work where the Markdown is read without the site.
myst_heading_anchors = 3
# Quotation marks and entities in code stay as they are.
smartquotes = False
nitpicky = True

# Blocks without a language are commands and their output.
highlight_language = "text"

html_theme = "furo"
html_title = "adc_pipeline"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
