"""The Chromium that pages are tested in, and a page of it that is watched."""

import contextlib
import shutil

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextlib.contextmanager
def watched_page(browser, site, start, size, timeout):
    """A page of a site, opened at `start`; it must meet no error, want nothing that its own policy
    forbids, and ask no other host.

    Args:
        site, start: addresses.
        size: width and height of the window, pixels.
        timeout: milliseconds for whatever is waited for.
    """
    page = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)))
    page.set_default_timeout(timeout)
    page.errors, page.requested = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.extend(_refusals(message.text)))
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(start)
    yield page
    elsewhere = [url for url in page.requested if not url.startswith((site, "blob:", "data:"))]
    assert (page.errors, elsewhere) == ([], [])
    page.close()


def _refusals(text):
    """What the page's own policy forbids it."""
    return [text] if "Content Security Policy" in text else []
