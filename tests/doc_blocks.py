"""Fenced blocks of the Markdown files, and what they say of the command line."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^(\s*)```(\w*)[^\n]*\n(.*?)^\1```\s*$", re.DOTALL | re.MULTILINE)
_SHELLS = {"bash", "sh", "shell", "console"}


class Block(NamedTuple):
    language: str
    line: int
    text: str


def documents():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text):
    """Fenced blocks in order, with the line of their first line of text."""
    found = []
    for match in _FENCE.finditer(text):
        indent, language, body = match.groups()
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(language, line, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)))
    return found


def commands(text, program="tfmtl"):
    """Words of every call of the program in the shell blocks of a document."""
    for block in blocks(text):
        if block.language not in _SHELLS:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = []
            # Operators such as | and && end a call.
            for word in [*lexer, ";"]:
                if set(word) <= set("|&;()<>"):
                    yield from _call(words, program)
                    words = []
                else:
                    words.append(word)


def _call(words, program):
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words and Path(words[0]).name == program:
        yield words[1:]


def unknown_words(words, command):
    """Sub-commands and options of a call that a click command does not have."""
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return [f"no sub-command {words[0]!r}"]
        command, words = command.commands[words[0]], words[1:]
    known = {"--help"}.union(*(option.opts + option.secondary_opts for option in command.params))
    options = (word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word))
    return [f"{command.name} has no option {name}" for name in options if name not in known]
