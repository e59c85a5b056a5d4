"""What a scaffold left, to be read: its log, its frozen plan, the files of its runs. Nothing else below it."""

from pathlib import Path

from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.results import PlanResult
from scaffold_torchtune.pipeline import results
from scaffold_torchtune.pipeline.locate import experiment_directory
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.state import load_plan
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree

LONGEST = 40_000
"""How many bytes of a text are given: of a log the end, where the verdict stands, of any other file the beginning."""

_RUN_FILES = (layout.SETUP_YAML, layout.FINETUNE_YAML, layout.FINETUNE_SLURM)


def log_text(request: Request) -> str:
    """The end of scaffold.log; the first line says so where something is left out.

    Raises:
        Refused: no experiment lies there, or it has no log.
    """
    with Tree(experiment_directory(request)) as tree:
        content = _content(tree, layout.LOG)
    if len(content) <= LONGEST:
        return content.decode(errors="replace")
    kept = content[-LONGEST:]
    kept = kept[kept.find(b"\n\n[") + 2 :]  # from an entry's beginning on
    return f"({len(content) - len(kept)} bytes before this are left out)\n\n{kept.decode(errors='replace')}"


def frozen_plan(request: Request) -> PlanResult:
    """The plan that was frozen.

    Raises:
        Refused: no experiment lies there, or nothing was rendered yet.
    """
    with Tree(experiment_directory(request)) as tree:
        return results.plan_result(_plan(tree))


def run_file(request: Request) -> str:
    """A file of a planned run; `request.experiment` is its path: EXPERIMENT/RUN/finetune.yaml.

    Raises:
        Refused: it is none of the three files of a planned run, or it is not there.
    """
    path = request.experiment
    directory, name = path.parent.name, path.name
    there = Request(path.parent.parent, roots=request.roots)
    with Tree(experiment_directory(there)) as tree:
        if name not in _RUN_FILES or directory not in {run.directory for run in _plan(tree).runs}:
            raise _not_there(f"{directory}/{name}", f"name one of {', '.join(_RUN_FILES)} in a planned run's directory")
        text = _content(tree, f"{directory}/{name}").decode(errors="replace")
    cut = len(text) - LONGEST
    return text if cut <= 0 else f"{text[:LONGEST]}\n... ({cut} more characters)\n"


def _plan(tree: Tree) -> Plan:
    plan = load_plan(tree)
    if plan is None or not plan.runs:
        raise refuse("not-rendered", "there is no plan yet", file=layout.PLAN, fix="run render_yaml (render) first")
    return plan


def _content(tree: Tree, path: str) -> bytes:
    content = tree.read(path)
    if content is None:
        raise _not_there(path, "call the tool that makes it: render_yaml, run_setup")
    return content


def _not_there(path: str, fix: str) -> Refused:
    return refuse("missing-file", f"there is no {Path(path).name} to read", file=path, fix=fix)
