"""What to do where a script lacks a package: the environment is not active, or the package is not in it."""

import re
from pathlib import Path
from typing import Final

from scaffold_torchtune.shared.processes import Environment
from scaffold_torchtune.shared.text import escape, shown

_LACKS: Final = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def lacking(output: str) -> str:
    """The package that a program says it lacks, by its name for `import`; empty where it does not say so."""
    found = _LACKS.findall(output)
    return str(found[-1]).partition(".")[0] if found else ""


def remedy(package: str, script: Path, environment: Environment) -> tuple[str, str]:
    """What is wrong where `script`, run in `environment`, lacks a package; and what to do."""
    if not environment.name:
        wrong = f"the environment that is active has no package {shown(package)}"
        activate = f" ({environment.commands})" if environment.commands else ""
        return wrong, f"activate the environment that has it{activate}, or leave out --no-activate"
    home = checkout(script)
    what = f"-e {home}" if home and _belongs(package, home) else package
    wrong = f"{environment.name} has no package {shown(package)}"
    return wrong, f"install it there: {escape(environment.python, 500)} -m pip install {what}"


def checkout(script: Path) -> Path | None:
    """The directory above a script that pip can install, where there is one."""
    above = (folder for folder in script.parents[:6] if folder != Path.home())
    return next((f for f in above if (f / "pyproject.toml").is_file() or (f / "setup.py").is_file()), None)


def _belongs(package: str, home: Path) -> bool:
    """Whether a checkout has the package: as a folder, by its own name, or in its pyproject.toml."""
    if home.name == package or any((home / part / package).is_dir() for part in ("", "src")):
        return True
    try:
        return re.search(rf"\b{package}\b", (home / "pyproject.toml").read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False
