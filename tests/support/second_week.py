"""An experiment that changes over time: rows and values change, and runs are trained in between.

Each scaffold is checked: no file of a started run differs, the plan announces the changes of the scaffold, a second
scaffold has nothing to do, and the submit line names exactly the runs that are scaffolded and not started.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scaffold_torchtune.findings import Refused, errors_in
from scaffold_torchtune.models import RunChange
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan, known_runs
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.validate import arrivals
from support.experiments import DATA, everything, run_directories

MODEL = "Llama-3.2-1B-Instruct"
LABELS = {
    "lora_rank": "LoRA Rank", "lr": "Learning Rate", "batch_size": "Batch Size", "epochs": "Epochs", "seed": "Seed",
    "system_prompt": "System Prompt", "resume_from_checkpoint": "Resume", "log_every_n_steps": "Log every",
    "clip_grad_norm": "Clip grad norm",
}  # fmt: skip


@dataclass
class Week:
    """The documents of an experiment: `rows` by Run Name, `shared` values, and values of claude.local.md."""

    directory: Path
    base: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=lambda: {"epochs": 3, "batch_size": 4})
    title: str = "words_sweep"
    local: dict[str, str] = field(default_factory=lambda: {"account": "lab", "constraint": "gpu80", "time": "0:59:00"})
    form: str = "markdown"
    given: dict[str, Any] = field(default_factory=dict)
    jobs: int = 100
    removed: dict[str, dict[str, Any]] = field(default_factory=dict)
    frozen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self) -> None:
        """Write the documents."""
        self.directory.mkdir(parents=True, exist_ok=True)
        data = self.directory / "data"
        if not data.exists():
            data.mkdir()
            (data / "words.json").write_text(json.dumps(DATA))
        for name, text in self.texts().items():
            (self.directory / name).write_text(text)

    def texts(self) -> dict[str, str]:
        """Return the documents by name."""
        local = {"conda_env": "torchtune", "my_wandb_project": "words", "output_dir_base": str(self.base), **self.local}
        texts = {"claude.local.md": "".join(f"{name}: {value}\n" for name, value in local.items())}
        if self.form in {"yaml", "both"}:
            texts["experiment_summary.yaml"] = yaml.safe_dump(self._yaml(), sort_keys=False)
        if self.form in {"markdown", "both"}:
            texts["experiment_summary.md"] = self._markdown()
        return texts

    def _markdown(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        heads = ["Run Name", "Model", *(LABELS[name] for name in columns), "Type"]
        cells = [
            [name, MODEL, *(str(row.get(column, "-")) for column in columns), "Fine-tuned"]
            for name, row in self.rows.items()
        ]
        table = [heads, ["---"] * len(heads), *cells]
        lines = ["| " + " | ".join(row) + " |" for row in table]
        said = {"system_prompt": '""', **self.shared}
        shared = [f"- **{LABELS[name]}:** {value}" for name, value in said.items()]
        parts = [f"# {self.title}", "## All Runs", *lines, "## Resources", "### Models"]
        parts += [f"- **{MODEL}**: `/models/{MODEL}`", "### Dataset", "- **Path**: `data/words.json`"]
        return "\n\n".join(["\n".join(parts), "\n".join(["## Configuration", "### Training", *shared])]) + "\n"

    def _yaml(self) -> dict[str, Any]:
        runs = [
            {"name": name, "type": "fine-tuned", "model": MODEL, "parameters": dict(row)}
            for name, row in self.rows.items()
        ]
        return {
            "experiment": {"name": self.title},
            "controls": {"system_prompt": "", **self.shared},
            "models": {"base": [{"name": MODEL, "path": f"/models/{MODEL}"}]},
            "data": {"training": {"path": "data/words.json", "format": "json"}},
            "output": {"wandb_project": "words"},
            "runs": runs,
        }

    # Actions of a person.

    def train(self, *runs: str, epochs: int = 1) -> None:
        """Create the files that a training of some runs leaves: their output, checkpoints, the config."""
        for run in runs:
            self.jobs += 1
            (self.directory / run / f"slurm-{self.jobs}.out").write_text("training\n")
            folder = self.outputs(run)
            for epoch in range(epochs):
                (folder / f"epoch_{epoch}").mkdir(parents=True, exist_ok=True)
                shutil.copy(self.directory / run / "finetune.yaml", folder / "torchtune_config.yaml")
        self.freeze()

    def outputs(self, run: str) -> Path:
        """Return the output directory of a run as it was planned last."""
        with Tree(self.directory) as tree:
            planned = known_runs(tree, existing_plan(tree))[run]
        return Path(arrivals.output_dir(planned) or "")

    def freeze(self) -> None:
        """Record the files of the started runs: they must not change from now on."""
        self.freeze_files(*self.started())

    def started(self) -> list[str]:
        """Return the started runs, from their files and the kept runs."""
        with Tree(self.directory) as tree:
            plan = existing_plan(tree)
            states = states_of(tree, [*plan.runs, *plan.former], Request(self.directory))
        kept = {each.directory for each in plan.kept}
        return [name for name, each in states.items() if each.started or name in kept]

    def freeze_files(self, *runs: str) -> None:
        """Record the files of some runs that no plan contains."""
        self.frozen = {run: everything(self.directory / run) for run in runs}

    def request(self, **given: Any) -> Request:
        return Request(self.directory, **{**self.given, **given})

    # Observations.

    def changes(self, **given: Any) -> dict[str, RunChange]:
        """Return the changes of the runs that a plan announces."""
        self.write()
        before = everything(self.directory)
        found = prepare.prepare(self.request(**given)).changes
        assert everything(self.directory) == before, "planning writes nothing"
        return {each.directory: each for each in found}

    def kinds(self, **given: Any) -> dict[str, str]:
        """Return the kind of each change."""
        return {name: each.kind for name, each in self.changes(**given).items()}

    def scaffold(self, *, told: bool = True, **given: Any) -> ScaffoldResult:
        """Write the documents, scaffold, and check the guarantees of every scaffold."""
        self.write()
        planned = self.changes(**given) if told else {}
        before = self.runs()
        result = steps.scaffold(self.request(**given))
        assert result.ok, result.validation.summary
        self.hold()
        after = self.runs()
        for name, change in planned.items():
            if change.kind in {"unchanged", "kept"}:
                assert after[name] == before[name], f"{name} was said to be {change.kind}"
            elif change.kind == "new":
                assert name not in before, f"{name} was said to be new"
            elif change.kind == "changed":
                assert after[name] != before[name], f"{name} was said to change"
        again = {name: value for name, value in given.items() if name not in {"started", "overwrite", "answers"}}
        whole = everything(self.directory)
        second = steps.scaffold(self.request(**again))
        assert second.ok
        assert second.unchanged, "a second scaffold has nothing to do"
        assert everything(self.directory) == whole
        assert submitted(result) == submitted(second) == self.waiting()
        return result

    def refused(self, **given: Any) -> Refused:
        """Return the refusal of a scaffold, which changes nothing except the log."""
        self.write()
        before = self.runs()
        try:
            steps.scaffold(self.request(**given))
        except Refused as refused:
            assert self.runs() == before
            self.hold()
            return refused
        raise AssertionError("it was not refused")

    def hold(self) -> None:
        """Assert that no file of a started run differs in bytes, inode or mtime."""
        for run, was in self.frozen.items():
            assert everything(self.directory / run) == was, f"{run} was touched"

    def waiting(self) -> list[str]:
        """Return the planned runs that are scaffolded and not started."""
        started = self.started()
        with Tree(self.directory) as tree:
            names = [run.directory for run in existing_plan(tree).runs]
        return [name for name in names if name not in started and (self.directory / name / "finetune.slurm").exists()]

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return everything in the run directories."""
        names = [name for name in run_directories(self.directory) if name != "original"]
        return {name: everything(self.directory / name) for name in names}


def submitted(result: ScaffoldResult) -> list[str]:
    """Return the runs in the submit line."""
    return result.submit.partition("for run in ")[2].partition(";")[0].split()


def grid(**levels: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return rows of all combinations of some levels, with Run Names that contain them."""
    rows: list[dict[str, Any]] = [{}]
    for name, values in levels.items():
        rows = [{**row, name: value} for row in rows for value in values]
    return {name_of(row): row for row in rows}


def name_of(row: Mapping[str, Any]) -> str:
    return "run_" + "_".join(f"{name}{value}" for name, value in row.items())


EPOCHS = {"epochs": 5, "batch_size": 4}
FOUR = ["rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5"]


def two_by_two(directory: Path) -> Week:
    """Return an experiment of two ranks with two learning rates, whose runs are `FOUR`."""
    return Week(directory / "sweep", directory / "outputs", grid(lora_rank=[8, 16], lr=["1e-5", "5e-5"]))


def codes(week: Week, **given: Any) -> set[str]:
    """Return the codes of the warnings of a plan."""
    return {each.code for each in steps.plan(week.request(**given)).warnings}


def moved_away(week: Week, started: str | None = None) -> None:
    """Run the commands in the fixes of a refusal."""
    for problem in errors_in(week.refused(started=started).problems):
        command = (problem.fix or "").partition(": ")[2].strip("`")
        subprocess.run(["/bin/sh", "-c", command], check=True, cwd=week.directory)
