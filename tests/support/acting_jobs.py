"""Stand-ins for what a job of a run calls on a compute node: conda, module, and a `tune` that does as it is told."""

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
    """A folder of programs, and of what runs are to do: `acts` writes a piece of shell for a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        for name, text in {"conda": _CONDA, "tune": _TUNE, "module": "#!/bin/sh\n"}.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        (folder / "calls").write_text("")

    def variables(self, path: str) -> dict[str, str]:
        """What jobs need in their environment, before those programs that are on a path."""
        return {"PATH": f"{self.programs}{os.pathsep}{path}", "ACTS": str(self.folder)}

    def acts(self, run: str, text: str) -> None:
        """Let a run do something."""
        (self.folder / run).write_text(text)

    def began(self) -> list[str]:
        """The runs whose training has begun, in order, each as often as it has."""
        return [line.split()[2] for line in self._lines() if line.startswith("begins")]

    def most_at_once(self) -> int:
        """How many trainings ran at once, of those whose end was written down: who is killed writes nothing."""
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
