"""Weeks with an experiment: growing and shrinking tables, values that start or stop varying, changing documents."""

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.settings.parameters import SURROUNDINGS
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.layout import TEMPLATES
from support.sampling import sampled, spread
from support.second_week import EPOCHS, FOUR, Week, codes, grid, name_of, submitted, two_by_two
from support.setup_scripts import MAKE, script
from support.stand_in_sbatch import StandIn
from support.wording import absent


@pytest.fixture
def week(tmp_path: Path) -> Week:
    """Return two ranks with two learning rates."""
    return two_by_two(tmp_path)


# Tables.


@pytest.mark.long
def test_a_table_grows_five_times_with_trained_runs_in_between(week: Week) -> None:
    week.scaffold()
    assert list(week.kinds()) == FOUR
    week.train("rank8_lr1e-5", epochs=3)
    week.rows |= grid(lora_rank=[32], lr=["1e-5", "5e-5"])  # one more level
    assert submitted(week.scaffold()) == [*FOUR[1:], "rank32_lr1e-5", "rank32_lr5e-5"]
    week.train("rank32_lr1e-5")
    week.rows |= grid(lora_rank=[8], lr=["1e-5"], batch_size=[8])  # a parameter begins to vary
    week.scaffold()
    assert week.kinds()["rank8_lr1e-5_bs8"] == "unchanged"
    week.train("rank8_lr1e-5_bs8")
    week.rows |= grid(lora_rank=[8], lr=["1e-5"], batch_size=[8], seed=[1, 2])  # one more, at two levels
    week.scaffold()
    week.train("rank8_lr5e-5")
    del week.rows["run_lora_rank16_lr1e-5"]
    week.rows |= grid(lora_rank=[64], lr=["1e-4"])
    week.scaffold()
    assert week.kinds()["rank16_lr1e-5"] == "dropped"
    week.rows |= grid(lora_rank=[16], lr=["1e-5", "2e-5"])  # one returns
    week.scaffold()
    assert set(week.kinds().values()) == {"unchanged"}
    assert set(week.started()) == {"rank8_lr1e-5", "rank32_lr1e-5", "rank8_lr1e-5_bs8", "rank8_lr5e-5"}


@pytest.mark.long
def test_a_parameter_that_no_longer_varies_still_matters_if_a_name_has_it(week: Week) -> None:
    week.scaffold()
    week.train(FOUR[0])
    for name in [name for name in week.rows if "5e-5" in name]:
        del week.rows[name]
    week.scaffold()  # one learning rate is left
    for row in week.rows.values():
        del row["lr"]
    week.shared["lr"] = "1e-5"
    week.scaffold()  # which is now in Configuration
    assert {name: kind for name, kind in week.kinds().items() if kind != "dropped"} == {
        FOUR[0]: "unchanged",
        FOUR[2]: "unchanged",
    }
    week.shared["lr"] = "2e-5"  # which the names of directories do not have
    kinds = week.kinds()
    assert {name for name, kind in kinds.items() if kind == "dropped"} == {*FOUR}
    assert [name for name, kind in kinds.items() if kind == "new"] == ["rank8", "rank16"]
    week.scaffold()


@pytest.mark.long
def test_reordered_renamed_returning_and_swapped_rows_are_the_same_runs(
    week: Week,
) -> None:
    week.scaffold()
    week.train(*FOUR[:3])
    rows = dict(week.rows)
    week.rows = dict(reversed(rows.items()))
    assert submitted(week.scaffold()) == FOUR[3:]
    week.rows = {f"other {number}": row for number, row in enumerate(rows.values())}
    week.scaffold()
    week.rows = dict(zip(rows, reversed(rows.values()), strict=True))  # every name has the values of a different row
    week.scaffold()
    assert set(week.kinds().values()) == {"unchanged"}
    week.rows = {name: row for name, row in rows.items() if row["lora_rank"] == 8}
    assert submitted(week.scaffold()) == [FOUR[1]][:0]
    assert not (week.directory / FOUR[3] / "finetune.slurm").exists()
    week.rows = rows
    assert submitted(week.scaffold()) == FOUR[3:]


@pytest.mark.long
def test_the_same_holds_if_shared_values_change_at_the_same_time(week: Week) -> None:
    week.scaffold()
    week.train(FOUR[0])
    week.rows = {name.replace("run_", "r-"): row for name, row in reversed(week.rows.items())}
    week.rows |= grid(lora_rank=[8], lr=["1e-5"], batch_size=[16])
    week.shared = EPOCHS | {"batch_size": 4}
    assert next(iter(week.refused().ask)).field == "started"
    result = week.scaffold(started="keep")
    assert sorted(submitted(result)) == sorted([*FOUR[1:], "rank8_lr1e-5_bs16"])
    assert set(week.kinds().values()) == {"unchanged", "kept"}


@pytest.mark.long
def test_a_run_that_returns_after_a_change_keeps_its_directory(
    week: Week,
) -> None:
    week.scaffold()
    week.train(FOUR[0])
    rows = dict(week.rows)
    del week.rows["run_lora_rank8_lr1e-5"], week.rows["run_lora_rank8_lr5e-5"]
    week.scaffold()
    week.shared = EPOCHS
    week.scaffold()
    week.rows = rows
    found = week.changes()
    assert {name: each.kind for name, each in found.items()} == {
        FOUR[0]: "changed", FOUR[1]: "changed", FOUR[2]: "unchanged", FOUR[3]: "unchanged"
    }  # fmt: skip
    assert {problem.actual for problem in week.refused().problems} == {FOUR[0]}
    assert sorted(submitted(week.scaffold(started="keep"))) == sorted(FOUR[1:])


# Shared values.


@pytest.mark.long
def test_changed_shared_values_apply_to_all_runs_until_a_start(week: Week) -> None:
    week.scaffold()
    week.shared = EPOCHS
    assert set(week.kinds().values()) == {"changed"}
    assert submitted(week.scaffold()) == FOUR
    week.train(*FOUR[:2], epochs=5)
    week.shared = {"epochs": 7, "batch_size": 4}
    assert week.refused().ask
    assert "started-run" in codes(week)
    result = week.scaffold(started="keep")
    assert submitted(result) == FOUR[2:]
    (mixed,) = [each for each in result.validation.findings if each.code == "mixed-runs"]
    assert (mixed.field, mixed.actual, mixed.expected) == ("epochs", 5, 7)
    assert "mixed-runs" in {each.code for each in result.plan.warnings}
    assert "kept" in {group.what for group in result.plan.changes.groups}
    assert result.validation.kept_values == ("epochs is still 5, but 7 in the summary",)
    assert "epochs is still 5, but 7 in the summary" in result.validation.summary
    week.rows |= grid(lora_rank=[32], lr=["1e-5"])
    week.scaffold()  # a kept run is not asked about again
    week.shared = {"epochs": 5, "batch_size": 4}  # the values that they started with: no run is kept any longer
    week.scaffold()
    assert set(week.kinds().values()) == {"unchanged"}
    assert not codes(week) & {"mixed-runs", "kept-run"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "old", "new", "has_column"), [("seed", "14", "2", True), ("clip_grad_norm", "none", "1", False)]
)
def test_the_values_that_mixed_runs_proposes_end_it(
    week: Week, name: str, old: str, new: str, *, has_column: bool
) -> None:
    week.scaffold()
    week.train(FOUR[0])
    if has_column:
        for row in week.rows.values():
            row[name] = new
    else:
        week.shared[name] = new
    (mixed,) = [each for each in week.scaffold(started="keep").validation.findings if each.code == "mixed-runs"]
    assert (mixed.field, absent(mixed.fix, old)) == (name, [])
    assert ("add a column" in mixed.fix) is not has_column
    for number, row in enumerate(week.rows.values()):
        row[name] = old if number == 0 else new
    assert week.kinds()[FOUR[0]] == "unchanged"
    week.scaffold()
    assert not codes(week) & {"mixed-runs", "kept-run"}


def test_kept_runs_with_equal_trained_values_are_one_design(week: Week) -> None:
    week.scaffold()
    week.train(*FOUR[:2])
    week.local["account"] = "other"
    result = week.scaffold(started="keep")
    found = {each.code for each in result.validation.findings}
    assert "kept-run" in found
    assert "mixed-runs" not in found
    assert not codes(week) & {"incomplete-factorial", "odd-value"}, "kept runs are part of the design"


@pytest.mark.parametrize(
    "changed",
    spread(["account", "title", "base", "constraint", "time"], every=5),
)
def test_every_change_of_all_runs_is_shown_and_started_runs_are_kept(week: Week, changed: str) -> None:
    week.scaffold()
    week.train(FOUR[0])
    match changed:
        case "title":
            week.title = "another_title"
        case "base":
            week.base = week.base.with_name("elsewhere")
        case _:
            week.local[changed] = {"account": "other", "constraint": "gpu40", "time": "2:00:00"}[changed]
    found = week.changes()
    assert {each.kind for each in found.values()} == {"changed"}
    assert [field.field for field in found[FOUR[1]].fields] == [
        "output_dir" if changed in {"title", "base"} else changed
    ]
    assert week.refused().ask
    assert submitted(week.scaffold(started="keep")) == FOUR[1:]
    week.rows |= grid(lora_rank=[32], lr=["1e-5"])
    week.scaffold()


@pytest.mark.long
def test_sbatch_no_longer_checks_started_runs(week: Week, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    week.scaffold()
    week.train(*FOUR[:2])
    week.local["account"] = "other"
    StandIn(tmp_path / "bin", monkeypatch).answers(
        'case "$script" in *account=lab*) echo "sbatch: error: invalid account" >&2; exit 1 ;; esac'
    )
    assert submitted(week.scaffold(started="keep")) == FOUR[2:]


# Templates, scripts and forms.


@pytest.mark.long
def test_a_template_and_an_external_script_replace_the_bundled_ones(week: Week, tmp_path: Path) -> None:
    for file in TEMPLATES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    base = tmp_path / "setup_finetune_template.yaml.j2"
    week.given = {"template": tmp_path / "setup_finetune_json.yaml.j2"}
    week.scaffold()
    week.train(FOUR[0])
    base.write_text(base.read_text() + "\n# of the group\n")
    assert week.refused().ask
    assert submitted(week.scaffold(started="keep")) == FOUR[1:]
    week.train(FOUR[1])
    week.given |= {"setup_script": str(script(tmp_path, MAKE)), "activate": False}
    result = week.scaffold(started="keep")  # a run started with the bundled one is unchanged
    assert submitted(result) == FOUR[2:]
    script(tmp_path, "# another\n" + MAKE)
    assert submitted(week.scaffold(told=False)) == FOUR[2:]


@pytest.mark.long
def test_a_changed_script_does_not_regenerate_a_started_run(week: Week, tmp_path: Path) -> None:
    week.given = {"setup_script": str(script(tmp_path, MAKE)), "activate": False}
    week.scaffold()
    week.train(FOUR[0])
    script(tmp_path, "# another\n" + MAKE)
    assert {problem.code for problem in week.refused().problems} == {"started-run"}
    assert submitted(week.scaffold(told=False, started="keep")) == FOUR[1:]


@pytest.mark.long
def test_the_yaml_form_grows(week: Week) -> None:
    week.form = "yaml"
    week.scaffold()
    names = list(week.rows)
    week.train(names[0])
    week.rows |= grid(lora_rank=[32], lr=["1e-5"])
    week.scaffold()
    week.rows = {f"{name}-renamed": row for name, row in week.rows.items()}
    week.scaffold()
    assert list(week.kinds()) == [*names, "run_lora_rank32_lr1e-5"]
    week.shared = EPOCHS
    assert week.refused().ask
    week.scaffold(started="keep")


@pytest.mark.long
def test_a_summary_rewritten_as_yaml_plans_the_same_runs(week: Week) -> None:
    week.scaffold()
    week.train(FOUR[0])
    week.form = "both"
    assert set(week.kinds().values()) == {"unchanged"}
    (week.directory / "experiment_summary.md").unlink()
    week.form = "yaml"
    week.scaffold()
    assert set(week.kinds().values()) == {"unchanged"}
    week.rows |= grid(lora_rank=[32], lr=["1e-5"])
    assert submitted(week.scaffold()) == [*FOUR[1:], "run_lora_rank32_lr1e-5"]
    (week.directory / "experiment_summary.yaml").unlink()
    week.form = "markdown"
    week.scaffold()
    assert set(week.kinds().values()) == {"unchanged"}


@pytest.mark.long
def test_a_different_naming_renames_only_unstarted_runs(week: Week) -> None:
    week.scaffold()
    week.train(FOUR[0])
    week.given = {"names": "table"}
    assert submitted(week.scaffold()) == list(week.rows)[1:]
    assert week.kinds()[FOUR[0]] == "unchanged"
    week.given = {}  # without the option the names are as before
    week.scaffold()
    assert {name for name, kind in week.kinds().items() if kind == "unchanged"} == {FOUR[0], *list(week.rows)[1:]}


# Any week.


def wander(week: Week, random: Random) -> None:
    """Change one thing in an experiment, as a person might."""
    names = list(week.rows)
    match random.choice(
        ["add", "add", "remove", "back", "rename", "shuffle", "shared", "swap", "local", "train", "train", "own"]
    ):
        case "add":
            row = {"lora_rank": random.choice([8, 16, 32]), "lr": random.choice(["1e-5", "5e-5", "1e-4"])}
            if random.random() < 0.5:
                row[random.choice(["batch_size", "seed", "epochs"])] = random.choice([1, 2, 8])
            week.rows.setdefault(name_of(row), row)
        case "remove" if len(names) > 2:
            name = random.choice(names)
            week.removed[name] = week.rows.pop(name)
        case "back" if week.removed:
            name = random.choice(list(week.removed))
            week.rows.setdefault(name, week.removed.pop(name))
        case "rename":
            name = random.choice(names)
            week.rows = {f"{each}x" if each == name else each: row for each, row in week.rows.items()}
        case "shuffle":
            random.shuffle(names)
            week.rows = {name: week.rows[name] for name in names}
        case "shared":
            week.shared[random.choice(["epochs", "batch_size"])] = random.choice([1, 2, 3, 4])
        case "swap":
            one, other = random.sample(names, 2)
            week.rows[one], week.rows[other] = week.rows[other], week.rows[one]
        case "local":
            week.local["account"] = random.choice(["lab", "other"])
        case "train" if waiting := week.waiting():
            week.train(*random.sample(waiting, 1 + random.randrange(min(2, len(waiting)))), epochs=random.randrange(4))
        case "own":  # a column with values in only some rows
            week.rows[random.choice(names)] |= {random.choice(["seed", "batch_size"]): random.choice([1, 2, 4])}


def settled(week: Week, random: Random) -> bool:
    """Scaffold and answer the questions; return False if the documents are refused."""
    given: dict[str, Any] = {}
    for _ in range(4):
        try:
            week.scaffold(told=bool(given) or random.random() < 0.5, **given)
        except Refused as refused:
            week.hold()
            found = {problem.code for problem in refused.problems if problem.severity is Severity.ERROR}
            if found == {"identical-runs"} or "seed-effect" in found:
                return False
            if not found <= {"started-run", "tied-run"}:
                raise
            for question in refused.ask:
                if question.field == "directories":
                    pairs = question.question.rpartition(": ")[2].split(", ")
                    given["answers"] = {"directories": random.choice(["new", pairs[0]])}
                else:
                    given["started"] = "keep"
        else:
            return True
    raise AssertionError("it asks without end")


@pytest.mark.long
@pytest.mark.parametrize("seed", sampled(range(6), every=3))
def test_no_change_in_a_week_affects_a_started_run(week: Week, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a week is no secret
    week.scaffold()
    for _ in range(12):
        rows, shared = {name: dict(row) for name, row in week.rows.items()}, dict(week.shared)
        before = directories(week)
        wander(week, random)
        if not settled(week, random):
            week.rows, week.shared = rows, shared
            assert settled(week, random)
        after = directories(week)
        assert {run: after[run] for run in before if run in after} == {
            run: before[run] for run in before if run in after
        }


def directories(week: Week) -> dict[str, str]:
    """Return the directory of each planned run, by all its trained values, without kept runs."""
    with Tree(week.directory) as tree:
        plan = existing_plan(tree)
    kept = {each.directory for each in plan.kept}
    surroundings = SURROUNDINGS | {"my_wandb_run_name"}
    return {
        str({name: each.value for name, each in run.settings.items() if name not in surroundings}): run.directory
        for run in plan.runs
        if run.directory not in kept
    }
