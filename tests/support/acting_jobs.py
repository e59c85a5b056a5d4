"""Stand-ins for the programs that a job calls on a compute node: conda, module, and a `tune` that acts on request."""

import os
from pathlib import Path

_CONDA = """\
#!/bin/bash
cat <<'HOOK'
conda() { :; }
HOOK
"""
_TUNE = """\
#!/bin/bash
run=${PWD##*/}
echo "begins $(date +%s.%N) $run" >> "$ACTS/calls"
trap 'echo "ends $(date +%s.%N) $run" >> "$ACTS/calls"' EXIT
echo "training $run as $SLURM_JOB_NAME"
[ ! -e "$ACTS/$run" ] || . "$ACTS/$run"
"""


class ActingJobs:
    """A directory of programs, and of the actions of runs: `acts` writes a piece of shell for a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        for name, text in {"conda": _CONDA, "tune": _TUNE, "module": "#!/bin/sh\n"}.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        (folder / "calls").write_text("")

    def variables(self, path: str) -> dict[str, str]:
        """Return the variables that jobs need in their environment, before the programs that are on PATH."""
        return {"PATH": f"{self.programs}{os.pathsep}{path}", "ACTS": str(self.folder)}

    def acts(self, run: str, text: str) -> None:
        """Define the action of a run, as a piece of shell."""
        (self.folder / run).write_text(text)

    def began(self) -> list[str]:
        """Return the runs that have started training, in order, once for each time."""
        return [line.split()[2] for line in self._lines() if line.startswith("begins")]

    def most_at_once(self) -> int:
        """Return the maximum number of simultaneous trainings, of those that recorded their end: killed ones do not."""
        lines = [line.split() for line in self._lines()]
        ended = {run for what, _, run in lines if what == "ends"}
        changes = sorted((float(time), 1 if what == "begins" else -1) for what, time, run in lines if run in ended)
        now = most = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most

    def _lines(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()
