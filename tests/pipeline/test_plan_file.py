"""Test that every step refuses a damaged, edited or forged plan.json with a message that names it, within bounds."""

import contextlib
import json
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused, Scalar, errors_in
from scaffold_torchtune.pipeline import state, steps
from scaffold_torchtune.pipeline.state import NotAPlan, read_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, everything, make_experiment, outputs, run_directories
from support.plan_files import change_plan, plan_of, with_its_id, write_plan
from support.sampling import distance, mostly_long, spread
from support.scaffolding import codes, refusal, scaffold
from support.setup_scripts import MAKE, script
from support.setup_scripts import scaffold as scaffold_with

STEPS = (steps.plan, steps.render, steps.setup, steps.validate, steps.scaffold)
NUL = "\0"
DEEP: Any = json.loads("[" * 900 + "]" * 900)


def setting(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a setting of the first run."""
    found: dict[str, Any] = plan["runs"][0]["settings"][name]
    return found


@pytest.fixture(scope="module")
def scaffolds(intact: Path) -> tuple[Path, Path]:
    """Return the scaffolded example, and one that is rendered for an external script."""
    external = make_experiment(intact.with_name("external"))
    steps.render(Request(external, setup_script=str(script(intact.parent, MAKE)), activate=False))
    return intact, external


@pytest.fixture
def planned(scaffolds: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """Return both as they were made, except their logs: a test may only change their plans."""
    plans = {found: (found / ".scaffold" / "plan.json").read_bytes() for found in scaffolds}
    yield scaffolds
    for found, plan in plans.items():
        (found / ".scaffold" / "plan.json").write_bytes(plan)


def check_refused(experiment: Path, by: Sequence[Any] = STEPS) -> None:
    """Check that every step refuses the plan, names its file, and changes nothing but the log."""
    before = outputs(experiment), (experiment / ".scaffold" / "plan.json").read_bytes()
    for step in by:
        refused = refusal(step, experiment)
        assert codes(refused) == ["document-unreadable"], step
        assert refused.problems[0].file == ".scaffold/plan.json"
        assert "remove .scaffold/plan.json" in refused.problems[0].fix
    assert before == (outputs(experiment), (experiment / ".scaffold" / "plan.json").read_bytes())


@pytest.mark.parametrize("old", ['"value": 8', '"epochs"', '"sweep"', '"line": 22', '"version": "'])
def test_an_edit_that_keeps_the_id_is_detected(planned: tuple[Path, Path], old: str) -> None:
    done, _ = planned
    file = done / ".scaffold" / "plan.json"
    text = file.read_text()
    old = old if old in text else '"epochs"'
    file.write_text(text.replace(old, old.replace("8", "9").replace("epochs", "batch_size").replace("22", "23"), 1)
                    .replace('"version": "', '"version": "0'))  # fmt: skip
    check_refused(done)


BYTES = {
    "empty": b"", "half": b'{"id": ', "no object": b"[]", "null": b"null", "not UTF-8": b'{"id": "\xff"}',
    "UTF-16": '{"id": 1}'.encode("utf-16"), "deep": b"[" * 100_000, "deep objects": b'{"a":' * 100_000,
    "many lists": b"[" + b"[]," * 3_000_000 + b"[]]", "many objects": b"[" + b"{}," * 3_000_000 + b"{}]",
    "large": b'{"id": "' + b"x" * 11_000_000 + b'"}', "a huge number": b'{"id": ' + b"9" * 5_000 + b"}",
    "no number": b'{"id": NaN}', "infinite": b'{"id": 1e999}', "NUL": b"\0" * 100,
}  # fmt: skip


@pytest.mark.parametrize("what", BYTES)
def test_bytes_that_are_not_a_plan_are_refused(planned: tuple[Path, Path], what: str) -> None:
    done, _ = planned
    (done / ".scaffold" / "plan.json").write_bytes(BYTES[what])
    refused = refusal(steps.validate, done)
    assert codes(refused) in (["document-unreadable"], ["unreadable-file"])
    assert refused.problems[0].file == ".scaffold/plan.json"


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no settings": lambda plan: plan["runs"][0].update(settings={}),
    "no epochs": lambda plan: plan["runs"][0]["settings"].pop("epochs"),
    "no model": lambda plan: plan["runs"][0]["settings"].pop("torchtune_model_name"),
    "no format": lambda plan: plan["runs"][0]["settings"].pop("dataset_ext"),
    "no name": lambda plan: plan["runs"][0]["settings"].pop("my_wandb_run_name"),
    "another name": lambda plan: setting(plan, "my_wandb_run_name").update(value="other"),
    "a zero batch": lambda plan: setting(plan, "batch_size").update(value=0),
    "a negative batch": lambda plan: setting(plan, "batch_size").update(value=-4),
    "a fraction of a batch": lambda plan: setting(plan, "batch_size").update(value=0.5),
    "a batch in words": lambda plan: setting(plan, "batch_size").update(value="4"),
    "a true batch": lambda plan: setting(plan, "batch_size").update(value=True),
    "no batch": lambda plan: setting(plan, "batch_size").update(value=None),
    "a huge batch": lambda plan: setting(plan, "batch_size").update(value=10**17),
    "a batch beyond all": lambda plan: setting(plan, "batch_size").update(value=10**400),
    "no GPUs": lambda plan: setting(plan, "gpus").update(value=0),
    "a huge rate": lambda plan: setting(plan, "lr").update(value=1e300),
    "a rate in words": lambda plan: setting(plan, "lr").update(value="fast"),
    "a list": lambda plan: setting(plan, "lr").update(value=[1]),
    "NUL in a path": lambda plan: setting(plan, "models_dir").update(value=f"/a{NUL}b"),
    "NUL in the data set": lambda plan: plan["runs"][0].update(data_path=f"/a{NUL}b.json"),
    "NUL in a prompt": lambda plan: setting(plan, "system_prompt").update(value=NUL),
    "half a character": lambda plan: plan.update(experiment="\ud800"),
    "a relative data set": lambda plan: plan["runs"][0].update(data_path="a.json"),
    "a long data set": lambda plan: plan["runs"][0].update(data_path="/" + "x" * 5_000),
    "a directory elsewhere": lambda plan: plan["runs"][0].update(directory="../elsewhere"),
    "an empty directory": lambda plan: plan["runs"][0].update(directory=""),
    "the state as a run": lambda plan: plan["runs"][0].update(directory=".scaffold"),
    "a run twice": lambda plan: plan["runs"].append(plan["runs"][0]),
    "a run twice but for case": lambda plan: plan["runs"][1].update(directory=RUNS[0].upper()),
    "very many runs": lambda plan: plan.update(runs=plan["runs"] * 300),
    "too many runs": lambda plan: plan.update(runs=[1] * 20_000),
    "runs as an object": lambda plan: plan.update(runs={}),
    "runs as text": lambda plan: plan.update(runs="abc"),
    "a relative experiment": lambda plan: plan.update(experiment_dir="sweep"),
    "NUL in the experiment": lambda plan: plan.update(experiment_dir=f"/{NUL}"),
    "NUL in the template": lambda plan: plan["options"].update(template=f"/{NUL}.j2"),
    "NUL in the script": lambda plan: plan["options"].update(setup_script=f"/{NUL}.py"),
    "a script by its name": lambda plan: plan["options"].update(setup_script="setup_finetune.py"),
    "names in another way": lambda plan: plan["options"].update(names="some"),
    "negative samples": lambda plan: plan["splits"][next(iter(plan["splits"]))].update(train=-1),
    "samples in words": lambda plan: plan["splits"][next(iter(plan["splits"]))].update(train="x"),
    "an unknown part": lambda plan: plan.update(more=1),
    "an unknown setting": lambda plan: plan["runs"][0]["settings"].update(lr_rate=setting(plan, "lr")),
    "submitted what is not there": lambda plan: plan["runs"][0].update(submitted=["qos"]),
    "unwritten what is not there": lambda plan: plan["runs"][0].update(unwritten=["x"]),
    "a negative line": lambda plan: plan["runs"][0].update(line=-1),
    "a source without a kind": lambda plan: setting(plan, "lr").update(source={}),
    "modules that are paths": lambda plan: plan["runs"][0]["settings"].update(
        modules=setting(plan, "lr") | {"value": "/tmp/evil"}),  # noqa: S108
    "an environment that is a path": lambda plan: setting(plan, "conda_env").update(value="../evil"),
    "a time without end": lambda plan: setting(plan, "time").update(value="0"),
    "deep": lambda plan: plan.update(varying=DEEP),
}  # fmt: skip


@pytest.mark.parametrize("what", spread(EDITS, 3))
def test_a_forged_plan_is_refused_despite_a_matching_id(planned: tuple[Path, Path], what: str) -> None:
    done, _ = planned
    change_plan(done, EDITS[what])
    check_refused(done, (steps.setup, steps.validate))


@pytest.mark.parametrize("what", mostly_long(EDITS, "no settings", "a run twice", "deep"))
def test_a_forged_plan_is_refused_by_every_step(planned: tuple[Path, Path], what: str) -> None:
    done, _ = planned
    change_plan(done, EDITS[what])
    check_refused(done)


OF_EXTERNAL = [what for what in EDITS if what not in {"an unknown setting", "no format", "a time without end"}]


@pytest.mark.long
@pytest.mark.parametrize("what", OF_EXTERNAL)
def test_a_plan_for_an_external_script_is_checked_too(planned: tuple[Path, Path], what: str) -> None:
    _, experiment = planned
    file = experiment.with_name("setup_finetune.py")
    change_plan(experiment, EDITS[what])
    for step in (steps.render, steps.setup, steps.validate):
        assert codes(refusal(step, experiment, setup_script=str(file))) == ["document-unreadable"]


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/kmsg", "/", "/nowhere"])
def test_a_device_named_in_a_plan_is_not_read(done: Path, target: str) -> None:
    change_plan(done, lambda plan: plan["options"].update(setup_script=target))
    result = steps.validate(Request(done))
    assert {each.code for run in result.runs for each in errors_in(run.findings)} == {"stale-output"}
    assert codes(refusal(steps.setup, done)) == ["setup-choice"]
    assert codes(refusal(steps.setup, done, setup_script=target)) == ["setup-script-missing"]
    change_plan(done, lambda plan: plan["options"].update(setup_script="bundled", template=target))
    check_refused(done)


@pytest.mark.long
def test_a_script_of_gigabytes_is_not_read(experiment: Path, tmp_path: Path) -> None:
    file = script(tmp_path / "tool", MAKE)
    steps.render(Request(experiment, setup_script=str(file)))
    with file.open("a") as opened:
        opened.truncate(8_000_000_000)
    program = (
        "import sys; from pathlib import Path; from scaffold_torchtune.request import Request\n"
        "from scaffold_torchtune.pipeline import steps; from scaffold_torchtune.findings import Refused\n"
        f"request = Request(Path({str(experiment)!r}), setup_script={str(file)!r})\n"
        "try:\n    steps.setup(request)\nexcept Refused as refused:\n    print([p.code for p in refused.problems])\n"
        "print(steps.validate(request).passed)"
    )
    bound = (1_500_000_000, 1_500_000_000)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "SCAFFOLD_TORCHTUNE_ACTIVATE": "off",
             "SCAFFOLD_TORCHTUNE_SBATCH": "off"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, bound),
    )  # fmt: skip
    assert done.stdout.splitlines() == ["['setup-script-missing']", "False"], done.stderr


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 10**17, 10**30, 0.0, -0.5, 1e-300, 1e300, "", "x", "0", "\0", "\ud800", "\n", "../x",
    "/", "/dev/zero", "${x}", "x" * 30_000, [], [1], {}, {"value": 1}, DEEP,
)  # fmt: skip


def places(of: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a JSON value."""
    found = [at] if at else []
    items = of.items() if isinstance(of, dict) else enumerate(of[:1]) if isinstance(of, list) else ()
    return [*found, *(place for key, value in items for place in places(value, (*at, key)))]


def changed_at(content: dict[str, Any], place: tuple[Any, ...], value: Any, *, removed: bool) -> dict[str, Any]:
    """Return a copy with a different value at a place, or with nothing there."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    parent: Any = copy
    for key in place[:-1]:
        parent = parent[key]
    if removed:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return copy


@pytest.mark.long
@pytest.mark.parametrize(
    ("seed", "tries"), mostly_long([(0, 150), *((n, 600) for n in range(1, 20, distance(10)))], (0, 150))
)
def test_any_value_at_any_place_is_a_plan_or_refused(done: Path, seed: int, tries: int) -> None:
    """With a matching id; every step runs an accepted plan without an exception."""
    chosen, content = random.Random(seed), plan_of(done)  # noqa: S311
    everywhere = places(content)
    assert len(everywhere) > 200
    taken = 0
    for _ in range(tries):
        place, value = chosen.choice(everywhere), chosen.choice(VALUES)
        hostile = with_its_id(changed_at(content, place, value, removed=chosen.random() < 0.2))
        try:
            read_plan(json.dumps(hostile).encode())
        except NotAPlan:
            continue
        taken += 1
        if taken <= 40:
            check_works(done, hostile)
    assert taken > tries / 15


def check_works(experiment: Path, plan: dict[str, Any]) -> None:
    """Check that each step ends or is refused."""
    write_plan(experiment, plan)
    for step in (steps.setup, steps.validate):
        with contextlib.suppress(Refused):
            step(Request(experiment)).model_dump_json()


def test_an_accepted_plan_equals_the_generated_one(done: Path) -> None:
    before = everything(done)
    plan = read_plan((done / ".scaffold" / "plan.json").read_bytes())
    value: Scalar = plan.runs[0].value("lora_rank")
    assert (value, plan.id) == (8, plan_of(done)["id"])
    assert scaffold(done).unchanged
    assert everything(done) == before


@pytest.mark.long
def test_a_plan_with_every_kind_of_text_keeps_its_id(tmp_path: Path) -> None:
    prompt = "Sätze \\u0041 \\\\u0000 'x' \"y\" ✓ 🙂 <b> {brace}"
    replace = {"**System prompt:**": f"**System prompt:** {prompt} "}
    experiment = make_experiment(tmp_path / "sweep", replace=replace)
    file = script(tmp_path / "tool", MAKE)
    assert scaffold_with(experiment, file).plan.runs
    assert scaffold_with(experiment, file).unchanged


def test_a_plan_that_could_not_be_read_again_is_refused_before_writing(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_SURELY_FEW", 1)
    monkeypatch.setattr(state, "MAX_READ", 20_000)
    refused = refusal(steps.scaffold, experiment)
    assert [(each.code, each.field, each.actual) for each in refused.problems] == [("invalid-value", "runs", 4)]
    assert not run_directories(experiment)
    assert not (experiment / ".scaffold").exists()


# Runs that are no longer in the table stay in the plan: their rows may return.


def replace_second_row(experiment: Path, name: str, number: int) -> None:
    """Replace the second row by one with a different name and learning rate."""
    file = experiment / "experiment_summary.md"
    rows = [line for line in file.read_text().splitlines(keepends=True) if "| Fine-tuned |" in line]
    row = f"| {name} | Llama-3.2-1B-Instruct | {8 * number} | {number}e-6 | 4 | Fine-tuned | ~10min |\n"
    file.write_text(file.read_text().replace(rows[1], row))


def test_names_that_differ_from_former_ones_only_in_case_are_accepted(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["- **Runs:**", "_rank16_"])
    for number, name in enumerate(("another", "ANOTHER", "Another", "third"), start=2):
        replace_second_row(experiment, name, number)
        assert scaffold(experiment, names="table").ok
    assert scaffold(experiment, names="table").unchanged


@pytest.mark.long
def test_the_oldest_former_runs_are_removed_before_the_plan_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["- **Runs:**", "_rank16_"])
    assert scaffold(experiment).ok
    size = (experiment / ".scaffold" / "plan.json").stat().st_size
    monkeypatch.setattr(state, "MAX_READ", 3 * size)
    monkeypatch.setattr(state, "_SURELY_FEW", 0)
    for number in range(2, 9):
        replace_second_row(experiment, f"run{number}", number)
        assert scaffold(experiment).ok
        assert scaffold(experiment).unchanged
        if number == 2:
            (experiment / "rank16_lr2e-6" / "slurm-1.out").write_text("training\n")
            before = everything(experiment / "rank16_lr2e-6")
    assert (experiment / ".scaffold" / "plan.json").stat().st_size < 3 * size
    former = [run.directory for run in state.existing_plan(Tree(experiment)).former]
    assert 1 <= len(former) < 7
    replace_second_row(experiment, "run2", 2)  # one that was removed
    assert "rank16_lr2e-6" not in former
    assert scaffold(experiment).ok
    assert everything(experiment / "rank16_lr2e-6") == before


def test_an_unreadable_plan_is_never_written(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_data: bytes) -> Any:
        raise NotAPlan("of ours")

    before = everything(experiment)
    monkeypatch.setattr(state, "read_plan", none)
    with pytest.raises(NotAPlan):
        steps.render(Request(experiment))
    assert everything(experiment) == before
