"""A stand-in for conda: as conda in a non-interactive shell, `conda activate` works only after its hook.

It supports only the calls of an activation: `shell.bash hook`, `activate`, `env list`.
"""

import shlex
import sys
from pathlib import Path

_PROGRAM = """\
#!/bin/bash
root={root}
case "$1 $2" in
"shell.bash hook") cat "$root/etc/profile.d/conda.sh" ;;
"shell.posix activate")
    echo "$3" >>"$root/activated"
    . "$root/answer"
    if [ "$3" = base ]; then prefix=$root; else prefix=$root/envs/$3; fi
    if [ ! -d "$prefix" ]; then
        printf '\\nEnvironmentNameNotFound: Could not find conda environment: %s\\n' "$3" >&2
        echo "You can list all discoverable environments with \\`conda info --envs\\`." >&2
        exit 1
    fi
    printf 'export CONDA_PREFIX=%q CONDA_DEFAULT_ENV=%q PATH=%q:"$PATH"\\n' "$prefix" "$3" "$prefix/bin" ;;
"env list")
    printf '# conda environments:\\n#\\nbase                 * %s\\n' "$root"
    for prefix in "$root"/envs/*/; do printf '%-20s   %s\\n' "$(basename "$prefix")" "${{prefix%/}}"; done
    printf '                         /somewhere/else\\n\\n' ;;
activate*) printf "CondaError: Run 'conda init' before 'conda activate'\\n" >&2; exit 1 ;;
*) echo "conda: error: invalid choice: $1" >&2; exit 2 ;;
esac
"""
_HOOK = """\
export CONDA_EXE={program}
conda() {{
    local script
    case "$1" in
    activate) script=$({program} shell.posix activate "$2") || return; eval "$script" ;;
    *) {program} "$@" ;;
    esac
}}
"""


class StandIn:
    """A conda in `root` with environments of these names; each has a Python that sets ENVIRONMENT to the name."""

    def __init__(self, root: Path, *names: str) -> None:
        self.root = root
        self.program = root / "condabin" / "conda"
        program = shlex.quote(str(self.program))
        self.hook = root / "etc" / "profile.d" / "conda.sh"
        for file, text in (
            (self.program, _PROGRAM.format(root=shlex.quote(str(root)))),
            (self.hook, _HOOK.format(program=program)),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.program.chmod(0o755)
        self.answers("")
        for name in names:
            tool = root / "envs" / name / "bin" / "python"
            tool.parent.mkdir(parents=True)
            tool.write_text(f'#!/bin/sh\nexport ENVIRONMENT={name}\nexec {shlex.quote(sys.executable)} "$@"\n')
            tool.chmod(0o755)

    def answers(self, answer: str) -> None:
        """Run this piece of shell at each activation of an environment."""
        (self.root / "answer").write_text(answer)

    @property
    def activated(self) -> list[str]:
        """Return every environment that was to be activated, in order."""
        file = self.root / "activated"
        return file.read_text().splitlines() if file.exists() else []
