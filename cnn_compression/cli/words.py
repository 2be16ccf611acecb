"""The words of a command as shells and other programs spell them -> as absl's flags take them."""

import difflib
import glob
import os
from collections.abc import Iterable

from absl import flags

from cnn_compression.cli.streams import STDIN

# What other programs call our verbs.
SYNONYMS = {"compress": "encode", "decompress": "decode", "restore": "decode", "identify": "info"}


def spelled_out(words: Iterable[str], values: flags.FlagValues) -> list[str]:
    """`-q50`, `-rq50`, `--skip-existing` as `--quality=50`, `-r --quality=50`, `--skip_existing`.

    What no flag of `values` is, flags' values, and what follows `--` stays as it is.
    """
    rest, done = list(words), []
    while rest:
        word = rest.pop(0)
        dashes = word[: len(word) - len(word.lstrip("-"))]
        if word == "--":
            return [*done, word, *rest]
        name, equals, value = word[len(dashes) :].partition("=")
        name, short = name.replace("-", "_"), name[:1]
        if dashes and (flag := _flag(name, values)) is not None:
            done.append(dashes + name + equals + value)
            if not (equals or flag.boolean):  # its value is the next word, whatever that is
                done += rest[:1]
                del rest[:1]
        elif dashes == "-" and short in values:
            if values[short].boolean:
                done.append(f"-{short}")
                rest.insert(0, f"-{word[2:]}")
            else:
                done.append(f"--{values[short].name}={word[2:]}")
        else:
            done.append(word)
    return done


def _flag(name: str, values: flags.FlagValues) -> flags.Flag | None:
    if name in values:
        return values[name]
    negated = name.removeprefix("no")
    return values[negated] if negated in values and values[negated].boolean else None


def expanded(arguments: Iterable[str]) -> list[str]:
    """Inputs, with the files of a pattern where the shell left it as it was.

    A file of exactly that name is meant first; a pattern that fits nothing stays.
    """
    found = []
    for argument in arguments:
        if os.path.lexists(argument):
            found.append(argument)
        else:
            pattern = os.path.expanduser(argument)
            found += sorted(glob.glob(pattern, recursive=True)) or [pattern]
    return found


def inputs(arguments: Iterable[str]) -> list[str]:
    """`expanded`, with the path of standard input where the word is `-`."""
    return [str(STDIN) if word == "-" else word for word in expanded(arguments)]


def suggestion(word: str, verbs: Iterable[str]) -> str:
    """What to add to a line about a word that is no verb: which one was meant, or nothing."""
    meanings = {verb: verb for verb in verbs} | SYNONYMS
    near = difflib.get_close_matches(word.lower(), meanings, 1)
    return f"; did you mean {meanings[near[0]]}?" if near else ""
