"""Home directories with their own login shell; modules are a stand-in if they must be."""

import os
from pathlib import Path

import pytest

from support.stand_in_conda import StandIn

MODULES = """\
# Modules as their users know them; an old version, which ends well whatever happened, where MODULES_OLD is set.
module() {
    case "$1" in
    load)
        echo "$2" >>"$HOME/loaded"
        case "$2" in
        broken/1) echo "ERROR: Module evaluation aborted" >&2; [ -n "$MODULES_OLD" ] ;;
        anaconda3/2025.6 | anaconda3/latest | gcc | cuda/12)
            local name=$2
            [ "$2" != anaconda3/latest ] || name=anaconda3/2025.6
            [ "$2" != gcc ] || name=gcc/12.2
            export LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}$name SITE=$name ;;
        *) echo "ERROR: Unable to locate a modulefile for '$2'" >&2; [ -n "$MODULES_OLD" ] ;;
        esac ;;
    is-loaded) [ -n "$MODULES_OLD" ] || [ "$2" = nickname ] ;;
    -t) printf '%s\\n' /opt/modules: anaconda3/2024.2 'anaconda3/2025.6(default)' broken/1 cuda/12 gcc/12.2 >&2 ;;
    esac
}
"""

HIDDEN = """\
# A login shell that finds no module system, wherever one may be.
unset -f module
function . { case $1 in */init/bash | /etc/profile.d/*) return 1 ;; *) builtin . "$@" ;; esac; }
"""


def home(folder: Path, profile: str = "") -> dict[str, str]:
    """Return the environment of a login with a separate home directory, whose ~/.bash_profile is `profile`."""
    folder.mkdir(parents=True)
    (folder / ".bash_profile").write_text(profile)
    return {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "USER": "ada"}


def loaded(login: dict[str, str]) -> list[str]:
    """Return every module that the stand-in was asked to load, in order."""
    file = Path(login["HOME"], "loaded")
    return file.read_text().splitlines() if file.exists() else []


class Login:
    """The login of a test: modules and conda are stand-ins, and conda has environments with these names."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.conda = StandIn(folder / "conda", *names)
        self.variables = home(folder / "home", MODULES + f". '{self.conda.hook}'\n")
        for name in list(os.environ):
            if name.startswith(("CONDA_", "MODULE", "LOADED", "LMOD", "VIRTUAL_ENV")):
                monkeypatch.delenv(name)
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("SCAFFOLD_TORCHTUNE_ACTIVATE")

    @property
    def loaded(self) -> list[str]:
        """Return every module that was to be loaded, in order."""
        return loaded(self.variables)

    def adds(self, line: str) -> None:
        """Add a line to the profile of the login shell."""
        with Path(self.variables["HOME"], ".bash_profile").open("a") as profile:
            profile.write(line + "\n")
