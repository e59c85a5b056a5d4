"""A stand-in for SLURM's commands on PATH: a table of jobs that sbatch adds to, squeue shows and scontrol releases.

A job that is submitted with `--hold` is pending until it is released; nothing runs. A hook is a piece of shell that a
command runs first, with its own arguments in `$*`: it may answer instead of the command, and end it.
"""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from support.experiments import make_experiment
from support.scaffolding import scaffold

_SBATCH = r"""
case " $* " in *" --test-only "*) exit 0 ;; esac
for script; do :; done
name=$(sed -n 's/^#SBATCH --job-name=//p' "$script" | head -n 1)
tasks=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
state=PENDING
for word; do
    case $word in
        --job-name=*) name=${word#--job-name=} ;;
        --hold) state=HELD ;;
    esac
done
id=$(($(cat "$here/last") + 1))
echo "$id" > "$here/last"
if [ "$tasks" ]; then
    for task in $(seq 0 "$tasks"); do echo "$name|${id}_$task|$state|$PWD"; done > "$here/new.$$"
else
    echo "$name|$id|$state|$PWD" > "$here/new.$$"
fi
cat "$here/new.$$" >> "$here/jobs"  # all at once, as a controller does
rm "$here/new.$$"
case " $* " in *" --parsable "*) echo "$id" ;; *) echo "Submitted batch job $id" ;; esac
"""
_SQUEUE = r"""
for word; do
    case $word in --name=*) names=,${word#--name=}, ;; esac
done
while IFS='|' read -r name id state place; do
    reason=None
    [ "$state" = HELD ] && state=PENDING reason=JobHeldUser
    job="$id|$state|0:00|INVALID|$reason|$place"
    if [ "$names" ]; then
        case $names in *,"$name",*) echo "$name|$job" ;; esac
    else
        echo "$job"
    fi
done < "$here/jobs"
"""
_SCONTROL = r"""
case " $* " in
    *" show config "*) echo "MaxArraySize            = $(cat "$here/largest")" ;;
    *" release "*)
        for id; do :; done
        sed "/|${id}\(_[0-9]*\)\{0,1\}|/s/|HELD|/|PENDING|/" "$here/jobs" > "$here/jobs.$$"
        mv "$here/jobs.$$" "$here/jobs"
        ;;
esac
"""
_PROGRAMS = {"sbatch": _SBATCH, "squeue": _SQUEUE, "scontrol": _SCONTROL, "sacct": "exit 1"}


class StandInJob(NamedTuple):
    """A job in the table, or a task of an array."""

    name: str
    id: str
    state: str
    place: str


class StandInSlurm:
    """The commands, in a folder that must be the first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name, text in _PROGRAMS.items():
            own = f"here={shlex.quote(str(folder))}"
            told = f'printf "%s\\n" "{name} $*" >> "$here/calls"; env > "$here/environment.{name}"'
            hook = f'[ ! -e "$here/{name}.hook" ] || . "$here/{name}.hook"'
            (folder / name).write_text(f"#!/bin/sh\n{own}\n{told}\n{hook}\n{text}\n:\n")
            (folder / name).chmod(0o755)
        self.reset()
        self.largest(1001)

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables with which the commands are found."""
        return {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", "SCAFFOLD_TORCHTUNE_SBATCH": ""}

    def reset(self) -> None:
        """Remove all jobs."""
        (self.folder / "last").write_text("4710\n")
        (self.folder / "jobs").write_text("")
        (self.folder / "calls").write_text("")

    def largest(self, tasks: int) -> None:
        """Set the maximum number of tasks of an array."""
        (self.folder / "largest").write_text(f"{tasks}\n")

    def hook(self, name: str, text: str) -> None:
        """Make a command run a piece of shell first; an empty one removes it."""
        file = self.folder / f"{name}.hook"
        if text:
            file.write_text(f"{text}\n")
        else:
            file.unlink(missing_ok=True)

    def ends(self, job: str, state: str) -> None:
        """Set the state of a job, or of a task of an array."""
        lines = [one._replace(state=state) if one.id == job else one for one in self.jobs()]
        (self.folder / "jobs").write_text("".join(f"{'|'.join(one)}\n" for one in lines))

    def jobs(self) -> list[StandInJob]:
        """Return the submitted jobs."""
        return [StandInJob(*line.split("|", 3)) for line in (self.folder / "jobs").read_text().splitlines()]

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call of a command."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]

    def submitted(self) -> list[str]:
        """Return the arguments of each call of sbatch that submits."""
        return [call for call in self.calls("sbatch") if "--test-only" not in call]

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of the last call of a command."""
        lines = (self.folder / f"environment.{name}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def slurm_on_path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    """Return a stand-in that is on PATH, without the variables of a job of the machine's own SLURM."""
    made = StandInSlurm(directory)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


def scaffold_with_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scaffold with visible outputs, and a directory on PATH for the squeue and sacct of the test."""
    outputs = {"/scratch/gpfs/LAB/ada/ck-outputs": str(tmp_path / "outputs")}
    experiment = make_experiment(tmp_path / "sweep", replace=outputs)
    assert scaffold(experiment, sbatch=False).ok
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)
    return experiment


def answers(experiment: Path, **scripts: str) -> None:
    """Replace programs of SLURM, each by its name, with shell scripts."""
    for name, text in scripts.items():
        file = experiment.parent / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
