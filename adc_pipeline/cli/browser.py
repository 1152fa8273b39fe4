"""Open pages in the user's browser, if there is one to be seen."""

import os
import sys
import webbrowser
from collections.abc import Sequence


def open_pages(addresses: Sequence[str], wanted: bool | None) -> None:
    """Open each address in a tab. `wanted`: always or never; None for at a terminal with a graphical browser only."""
    if wanted or (wanted is None and sys.stdout.isatty() and has_browser()):
        for address in addresses:
            webbrowser.open_new_tab(address)


def has_browser() -> bool:
    """Return whether there is a browser with windows; one in the terminal would take it from the command."""
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
