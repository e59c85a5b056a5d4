"""What README.md tells people to type and to configure."""

import re
import shlex
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def install_section() -> str:
    """The section that says how to install."""
    return README.read_text().partition("\n## Install\n")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    """The code blocks of a language in that section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", install_section(), re.MULTILINE | re.DOTALL)


def command_lines(program: str) -> list[list[str]]:
    """The arguments of every line of that section that starts a program."""
    lines = re.findall(r"^\$ (.*)$", "".join(blocks("console")), re.MULTILINE)
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words[0] == program]
