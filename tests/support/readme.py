"""The commands and configuration blocks of README.md."""

import re
import shlex
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def section(title: str) -> str:
    """Return the text of a section."""
    return README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def install_section() -> str:
    """Return the section about installation."""
    return section("Install")


def blocks(language: str, title: str = "Install") -> list[str]:
    """Return the code blocks of a language in a section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def command_lines(program: str, title: str = "Install") -> list[list[str]]:
    """Return the arguments of every line of a section that starts a program."""
    lines = re.findall(r"^\$ (.*)$", "".join(blocks("console", title)), re.MULTILINE)
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words[0] == program]
