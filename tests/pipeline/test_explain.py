"""`explain`: each value with the line that sets it, every place that holds it, and its earlier value."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from scaffold_torchtune.cli import main, printing, run_screens
from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.models import Arrival, ChangeKind, Plan, SourceKind
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.explain import Explained, ExplainedRun, ExplainResult, explain
from scaffold_torchtune.pipeline.history import history
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.setup import render_runs, run_bundled
from scaffold_torchtune.system import layout
from scaffold_torchtune.validate import validate_run
from scaffold_torchtune.validate.run_files import RunFiles
from support.command_line import answer
from support.documents import local_md, planned, runs, summary
from support.experiments import RUNS, TO_RECIPES, Clock, change, everything, make_experiment
from support.given_settings import BY_RUN, OF_LOCAL
from support.golden_files import golden
from support.kit_generations import kit
from support.mcp_calls import call
from support.sampling import mostly_long, spread
from support.scaffolding import scaffold
from support.setup_scripts import MAKE, script
from support.wording import absent

SUMMARY, LOCAL = "experiment_summary.md", "claude.local.md"
FIRST = RUNS[0]


def line_of(experiment: Path, document: str, part: str) -> int:
    lines = (experiment / document).read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, start=1) if part in line]
    return number


def only(experiment: Path, field: str, run: str = FIRST, **given: Any) -> Explained:
    """Return the only setting of a run that matches a name."""
    (found,) = explain(Request(experiment, **given), run, field).settings
    return found


def check_lines(experiment: Path, run: str, places: Iterable[Arrival]) -> None:
    """Check that the line of each place has the key, the option or the command."""
    for place in places:
        if place.line is None:
            continue
        line = (experiment / run / place.file).read_text().splitlines()[place.line - 1]
        word = place.where.rsplit(".", 1)[-1] if place.file.endswith(".yaml") else place.where
        word = {"--gres": "--gres=", "the activation of the environment": "conda activate"}.get(word, word)
        word = "tune run" if "`tune run`" in word else word.strip("`")
        assert word in line, (place, line)


# Sources and places of values.


def test_every_value_of_a_run_is_shown_with_its_source_and_its_lines(done: Path) -> None:
    result = explain(Request(done), FIRST)
    (run,) = result.runs
    assert (run.directory, run.what, run.files) == (FIRST, "unchanged", layout.RUN_FILES)
    assert (result.counts["not_arrived"], result.warnings) == (0, ())
    written = (done / FIRST / "setup_finetune.yaml").read_text()
    keys = [line.partition(":")[0] for line in written.splitlines() if line[:1].isalpha()]
    assert [each.field for each in result.settings] == keys
    for each in result.settings:
        assert {place.file for place in each.places} - {"setup_finetune.yaml"}, f"{each.field} is used nowhere"
        check_lines(done, FIRST, each.places)
    lr = only(done, "lr")
    row = line_of(done, SUMMARY, f"_{FIRST} |")
    assert (lr.value, lr.source) == (1e-5, f"{SUMMARY}:{row} (Learning Rate)")
    assert [place.file for place in lr.places] == ["setup_finetune.yaml", "finetune.yaml"]
    assert lr.places[1].where == "optimizer.lr"
    assert only(done, "time").source.startswith(f"{LOCAL}:{line_of(done, LOCAL, 'Default time')} ")
    assert only(done, "lora_alpha").source.startswith(SourceKind.DERIVED.value)
    assert only(done, "seed").source.startswith(SourceKind.DEFAULT.value)


NOWHERE = {"base_recipe", "checkpoint_files", "custom_recipe", "project_dir", "venv", "train_on_input"} | {
    "experiment_name", "wandb_mode", "input_formatting", "batch_size", "epochs", "my_wandb_project", "output_dir_base",
    "conda_env",
}  # fmt: skip
"""Settings that no line of these documents sets, or that every run has."""


LARGE = "Llama-3.1-8B-Instruct"
"""A model with an output layer that is separate from its embeddings, so that LoRA can be applied to it."""


def places_of(plan: Plan) -> list[Arrival]:
    """Return the places in the files that the bundled setup_finetune generates for the first run."""
    run = plan.runs[0]
    (rendered,) = render_runs(plan, [run], [layout.TEMPLATES])
    made = run_bundled(run, rendered.text)
    assert made.reason == ""
    files = {name: data.decode() for name, data in made.files.items()}
    places: list[Arrival] = []
    validate_run(run, RunFiles({**files, layout.SETUP_YAML: rendered.text}), bundled=True, arrivals=places)
    return places


def plan_with(name: str) -> Plan:
    """Return a plan whose documents set a setting."""
    text = summary(table=runs(model=LARGE), models={LARGE: f"`/models/{LARGE}`"})
    if name in BY_RUN:
        lines = {name: BY_RUN[name][0], **({"dataset_type": "chat_completion"} if name == "prompt" else {})}
        text = summary(table=runs(model=LARGE), models={LARGE: f"`/models/{LARGE}`"}, training=lines)
    local = local_md() + (f"\n## SLURM\n\n- {name}: {OF_LOCAL[name][0]}\n" if name not in BY_RUN else "")
    return planned(text, local)


@pytest.mark.parametrize("name", [name for name in BY_RUN | OF_LOCAL if name not in NOWHERE])
def test_each_documented_setting_is_found_in_the_files_that_use_it(name: str) -> None:
    places = places_of(plan_with(name))
    assert [place for place in places if not place.arrived] == []
    own = [place for place in places if place.setting == name]
    assert {place.file for place in own} - {layout.SETUP_YAML}, f"{name} is used nowhere"


def test_every_known_key_is_covered_by_the_previous_test() -> None:
    usual = {place.setting for place in places_of(planned()) if place.file != layout.SETUP_YAML}
    assert {*KEYS} - usual - {*BY_RUN} - {*OF_LOCAL} - NOWHERE == set()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lr", ["lr"]),
        ("Learning rate", ["lr"]),
        ("learning_rate", ["lr"]),
        ("optimizer.lr", ["lr"]),
        ("LoRA Rank", ["lora_rank"]),
        ("model.lora_rank", ["lora_rank"]),
        ("--time", ["time"]),
        ("Time limit", ["time"]),
        ("gres", ["gpus"]),
        ("job-name", ["my_wandb_run_name"]),
        ("output_dir", ["output_dir_base", "experiment_name", "my_wandb_run_name"]),
        ("model", ["torchtune_model_name"]),
        ("dataset", ["dataset_label", "input_dir_base", "dataset_ext"]),
        ("metric_logger.project", ["my_wandb_project"]),
        ("warmup ratio", ["num_warmup_steps"]),
        ("recipe", ["recipe"]),
        ("clip_grad_norm", ["clip_grad_norm"]),
    ],
)
def test_a_setting_can_be_named_as_in_documents_and_as_in_files(intact: Path, name: str, fields: list[str]) -> None:
    assert [each.field for each in explain(Request(intact), FIRST, name).settings] == fields


def test_a_setting_that_the_run_lacks_is_shown_without_value_and_places(done: Path) -> None:
    found = only(done, "clip_grad_norm")
    assert (found.value, found.places) == (None, ())
    assert [place.file for place in only(done, "recipe").places] == ["finetune.slurm"]


def test_the_recipe_of_full_fine_tuning_is_found_in_its_start_command(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace=TO_RECIPES)
    assert scaffold(experiment).ok
    (name,) = [each.name for each in experiment.iterdir() if "full" in each.name and "1e-5" in each.name]
    (recipe,) = explain(Request(experiment), name, "recipe").settings
    assert recipe.value == "full_finetune_single_device"
    assert [place.file for place in recipe.places] == ["setup_finetune.yaml", "finetune.slurm"]
    assert explain(Request(experiment), name, "lora_rank").settings[0].value is None


@pytest.mark.parametrize(
    ("run", "field", "meant"),
    [
        ("rank8_lr1e-6", None, FIRST),
        ("nothing*", None, ""),
        ("", None, ""),
        (FIRST, "learnig rate", "learning rate"),
        (FIRST, "lora_rnk", "lora rank"),
        (FIRST, "optimiser.lr", "optimizer.lr"),
        (FIRST, "", ""),
        (FIRST, "x" * 5_000, ""),
        (FIRST, "\x1b[31m", ""),
    ],
)
def test_an_unknown_name_is_refused_with_a_similar_name(intact: Path, run: str, field: str | None, meant: str) -> None:
    with pytest.raises(Refused) as caught:
        explain(Request(intact), run, field)
    (problem,) = caught.value.problems
    assert (problem.code, problem.field) == ("unknown-name", "run" if field is None else "field")
    assert absent(problem.message, *([meant] if meant else [])) == []
    assert "\x1b" not in problem.sentence()


def test_runs_match_by_directory_run_name_or_pattern_and_equal_values_are_listed_once(done: Path) -> None:
    assert explain(Request(done), "Llama-3.2-1B-Instruct_rank8_lr1e-5").runs[0].directory == FIRST
    result = explain(Request(done), "rank8_*")
    assert [each.directory for each in result.runs] == [*RUNS[:2]]
    by_field: dict[str, list[tuple[str, ...]]] = {}
    for each in result.settings:
        by_field.setdefault(each.field, []).append(each.runs)
    assert by_field["lora_rank"] == [(RUNS[0],), (RUNS[1],)], "two rows give it"
    assert by_field["seed"] == [()]
    assert len(explain(Request(done), None, "lr").runs) == len(RUNS)


# Overridden and earlier values.


def test_overridden_values_are_listed(tmp_path: Path) -> None:
    experiment = make_experiment(
        tmp_path / "sweep",
        replace={"- **Epochs:** 2": "- **Epochs:** 2\n- **Learning rate:** 3e-5\n- **Time limit:** 2:00:00"},
    )
    template = tmp_path / "usual.yaml"
    template.write_text("lr: 0.001\nepochs: 9\nseed: 5\n")
    lr = only(experiment, "lr", template=template)
    assert lr.value == 1e-5
    line = line_of(experiment, SUMMARY, "3e-5")
    assert [each.partition(",")[0] for each in lr.instead_of] == ["3e-5", "1e-3"]
    assert f"{SUMMARY}:{line} " in lr.instead_of[0]
    assert "usual.yaml:1" in lr.instead_of[1]
    time = only(experiment, "time", template=template)
    assert (time.value, len(time.instead_of)) == ("2:00:00", 1)
    assert f"{LOCAL}:{line_of(experiment, LOCAL, 'Default time')} " in time.instead_of[0]
    assert only(experiment, "seed", template=template).source.startswith("usual.yaml:3")


def test_an_experiment_that_was_not_scaffolded_has_no_places(experiment: Path) -> None:
    before = everything(experiment)
    result = explain(Request(experiment), FIRST)
    assert (result.runs[0].what, result.runs[0].files) == ("new", ())
    assert all(each.places == () and each.history == () for each in result.settings)
    assert only(experiment, "lr").value == 1e-5
    assert everything(experiment) == before


def test_between_render_and_setup_the_value_is_in_one_file(experiment: Path) -> None:
    steps.render(Request(experiment))
    result = explain(Request(experiment), FIRST)
    assert result.runs[0].files == ("setup_finetune.yaml",)
    assert {place.file for each in result.settings for place in each.places} == {"setup_finetune.yaml"}


@pytest.mark.parametrize(
    ("file", "old", "new", "field", "found"),
    [
        ("finetune.yaml", "lr: 1.0e-05", "lr: 2.0e-05", "lr", 2e-5),
        ("finetune.yaml", "epochs: 2", "epochs: '2'", "epochs", "2"),
        ("finetune.yaml", "seed: 14\n", "", "seed", None),
        ("finetune.slurm", "--time=0:59:00", "--time=1:59:00", "time", "1:59:00"),
        ("finetune.slurm", "#SBATCH --account=lab\n", "", "account", None),
        ("finetune.slurm", "--gres=gpu:1", "--gres=gpu:2", "gpus", "gpu:2"),
        ("setup_finetune.yaml", "batch_size: 4", "batch_size: 8", "batch_size", 8),
        ("setup_finetune.yaml", "batch_size: 4\n", "", "batch_size", None),
    ],
)
def test_missing_and_different_values_are_shown_as_such(
    done: Path, file: str, old: str, new: str, field: str, found: Scalar
) -> None:
    change(done / FIRST / file, old, new)
    result = explain(Request(done), FIRST, field)
    assert result.counts["not_arrived"] == 1
    (wrong,) = [place for place in result.settings[0].places if not place.arrived]
    assert (wrong.file, wrong.found) == (file, found)
    (line,) = [each for each in result.settings[0].arrives if " is " in each]
    assert absent(line, *([wrong.where, "missing"] if found is None else [str(found).replace("2e-05", "2e-5")])) == []
    check_lines(done, FIRST, [wrong])


def test_changed_documents_are_compared_with_the_files_and_the_scaffolded_plan(done: Path) -> None:
    clock = Clock()
    change(done / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 3")
    assert scaffold(done, now=clock).ok
    change(done / SUMMARY, "- **Epochs:** 3", "- **Epochs:** 5")
    result = explain(Request(done), FIRST, "epochs")
    assert result.runs[0].what == "changed"
    (found,) = result.settings
    assert (found.value, found.former.partition(",")[0]) == (5, "3")
    assert [place.found for place in found.places] == [3, 3]
    (version,) = history(Request(done), FIRST).versions
    assert found.history == (f"2 ({version.version}: {version.reason})",)


def test_earlier_values_are_shown_if_they_differ_from_later_ones(done: Path) -> None:
    clock = Clock()
    for old, new in ((2, 3), (3, 4), (4, 2)):
        change(done / SUMMARY, f"- **Epochs:** {old}", f"- **Epochs:** {new}")
        assert scaffold(done, now=clock).ok
    assert [each.partition(" ")[0] for each in only(done, "epochs").history] == ["4", "3", "2"]
    assert only(done, "batch_size").history == ()
    (newest, *_) = history(Request(done), FIRST).versions
    (done / newest.path / "setup_finetune.yaml").write_bytes(b"\xff: [")
    assert [each.partition(" ")[0] for each in only(done, "epochs").history] == ["3", "2"]


def test_a_kept_run_shows_its_own_values_and_those_of_the_documents(done: Path) -> None:
    (done / FIRST / "slurm-1.out").write_text("")
    change(done / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")
    assert scaffold(done, started="keep").ok
    result = explain(Request(done), FIRST, "epochs")
    assert result.runs[0].what == "kept"
    (found,) = result.settings
    assert (found.value, found.documents.partition(",")[0]) == (2, "5")
    assert [place.arrived for place in found.places] == [True, True]
    assert only(done, "epochs", RUNS[1]).documents == ""
    line = next(place for place in (found.documents, found.source) if SUMMARY in place).partition(SUMMARY)[2][:4]
    assert (line in found.documents, f"{SUMMARY}{line}" in found.source) == (True, True)
    assert found.source != only(done, "epochs", RUNS[1]).source  # the line has another value now


@pytest.mark.parametrize("name", spread(layout.RUN_FILES, every=3))
@pytest.mark.parametrize("removed", [False, True])
def test_edited_files_are_no_change_of_the_documents(
    done: Path, name: str, removed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = done / FIRST / name
    if removed:
        file.unlink()
    else:
        file.write_text(file.read_text() + "# edited\n")
    assert explain(Request(done), FIRST, "lr").runs[0].what == "edited"
    assert explain(Request(done), RUNS[1], "lr").runs[0].what == "unchanged"
    change(done / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")
    assert explain(Request(done), FIRST, "lr").runs[0].what == "changed"
    assert main(["explain", str(done), FIRST, "lr"]) == 0
    assert capsys.readouterr().out.startswith(f"{FIRST}: scaffolded, but the documents")


def test_the_progress_of_a_run_is_shown(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / FIRST / "slurm-1.out").write_text("")
    (run,) = explain(Request(done), FIRST, "lr").runs
    assert (run.what, run.state) == ("unchanged", "submitted")
    assert main(["explain", str(done), FIRST, "lr"]) == 0
    assert capsys.readouterr().out.startswith(f"{FIRST}: submitted, and unchanged")


def test_a_run_that_left_the_table_is_explained_as_scaffolded(done: Path) -> None:
    (row,) = [line for line in (done / SUMMARY).read_text().splitlines(keepends=True) if f"_{FIRST} |" in line]
    change(done / SUMMARY, row, "")
    for _ in range(2):
        result = explain(Request(done), FIRST, "lr")
        assert (result.runs[0].what, result.settings[0].value) == ("dropped", 1e-5)
        assert [place.arrived for place in result.settings[0].places] == [True, True]
        assert scaffold(done).ok
    assert explain(Request(done), FIRST).runs[0].files == ("setup_finetune.yaml", "finetune.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "\xff"])
def test_if_the_documents_cannot_be_planned_the_scaffolded_plan_is_explained(done: Path, text: str) -> None:
    (done / SUMMARY).write_bytes(text.encode("latin-1"))
    before = everything(done)
    result = explain(Request(done), FIRST, "lr")
    assert [each.code for each in result.warnings] == ["plan-outdated"]
    assert (result.settings[0].value, result.counts["not_arrived"]) == (1e-5, 0)
    assert everything(done) == before


def test_without_a_plan_invalid_documents_are_refused(experiment: Path) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2", "")
    with pytest.raises(Refused) as caught:
        explain(Request(experiment), FIRST)
    assert [each.field for each in caught.value.ask] == ["epochs"]


# External scripts.


@pytest.mark.long
def test_an_external_script_is_explained_and_only_run_if_the_operator_names_it(three: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    file = script(tmp_path, f"pathlib.Path({str(mark)!r}).write_text('')\n{MAKE}")
    assert scaffold(three, setup_script=str(file)).ok
    mark.unlink()
    result = explain(Request(three), FIRST)
    assert (result.runs[0].what, result.warnings, result.counts["not_arrived"]) == ("unchanged", (), 0)
    assert only(three, "lr").instead_of == ()
    change(three / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")
    result = explain(Request(three), FIRST, "epochs")
    assert [each.code for each in result.warnings] == ["plan-outdated"]
    assert result.settings[0].value == 2
    assert not mark.exists()
    (found,) = explain(Request(three, setup_script=str(file)), FIRST, "epochs").settings
    assert (found.value, {place.found for place in found.places}) == (5, {2})


@pytest.mark.long
def test_settings_that_an_external_script_cannot_accept_are_in_the_submit_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    given: dict[str, Any] = {"setup_script": str(kit(tmp_path / "kit", "december")), "activate": False}
    experiment = make_experiment(
        tmp_path / "sweep", replace={"- **Account**: `lab`": "- **Account**: `lab`\n- **QOS**: `high`"}
    )
    assert scaffold(experiment, **given).ok
    found = only(experiment, "qos", **given)
    assert (found.value, found.submitted, found.places) == ("high", "--qos", ())
    assert found.source.startswith(f"{LOCAL}:{line_of(experiment, LOCAL, 'QOS')} ")
    account = only(experiment, "account", **given)
    assert account.places[-1].file == "finetune.slurm"


# Hostile files.


@pytest.mark.long
@pytest.mark.parametrize("name", mostly_long(layout.RUN_FILES, "finetune.yaml"))
@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "not UTF-8", "deep", "empty", "huge"])
def test_unreadable_files_are_named_and_the_rest_is_explained(done: Path, name: str, kind: str) -> None:
    file = done / FIRST / name
    file.unlink()
    if kind == "link":
        file.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        texts = {"not UTF-8": b"\xff\xfe", "deep": b"[" * 100_000, "empty": b"", "huge": b"a: b\n" * 3_000_000}
        file.write_bytes(texts[kind])
    before = everything(done)
    result = explain(Request(done), FIRST, "lr")
    assert result.settings[0].value == 1e-5
    if kind in {"link", "fifo", "directory", "not UTF-8", "huge"}:
        assert [each.file for each in result.warnings] == [f"{FIRST}/{name}"]
        assert name not in result.runs[0].files
    assert everything(done) == before


# The command and the tool.


@pytest.mark.long
def test_the_commands_write_nothing(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(done / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")
    assert scaffold(done).ok
    change(done / SUMMARY, "- **Epochs:** 5", "- **Epochs:** 7")
    before = everything(done)
    for arguments in (
        ["explain", str(done), FIRST],
        ["explain", str(done), "rank*", "epochs", "--json"],
        ["history", str(done)],
        ["history", str(done), FIRST, "--diff"],
        ["history", str(done), FIRST, "--json"],
    ):
        assert main(arguments) == 0
    assert main(["explain", str(done), "nobody"]) == 2
    assert main(["history", str(done), "nobody"]) == 2
    assert capsys.readouterr().out
    assert everything(done) == before


def test_every_status_of_a_run_has_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    console = printing.console()
    for what in (*get_args(ChangeKind), "planned"):
        run = ExplainedRun(directory="rank8", name="r", what=what, files=())
        run_screens.show_provenance(console, ExplainResult(runs=(run,), settings=(), warnings=()))
    heads = {line for line in capsys.readouterr().out.splitlines() if line.startswith("rank8: ")}
    assert len(heads) == 1 + len(get_args(ChangeKind))


def test_the_json_reply_is_bounded_and_complete_on_request(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(done), "*", "--json"]) == 0
    data = answer(capsys)
    assert len(json.dumps(data)) < 15_000
    assert data["left_out"]["settings"] == data["counts"]["settings"] - len(data["settings"])
    assert data["settings"][0] | {"runs": [], "arrives": []} == {
        "runs": [],
        "field": "my_wandb_run_name",
        "value": FIRST,
        "source": "derived (the run directory's name)",
        "arrives": [],
    }
    assert main(["explain", str(done), "*", "--json", "--all"]) == 0
    assert len(answer(capsys)["settings"]) == data["counts"]["settings"]


def test_a_setting_and_a_whole_run_fit_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    clock = Clock()
    assert scaffold(experiment, now=clock).ok
    change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 3\n- **Time limit:** 2:00:00")
    assert scaffold(experiment, now=clock).ok
    change(experiment / SUMMARY, "- **Epochs:** 3", "- **Epochs:** 5")
    change(experiment / FIRST / "finetune.yaml", "seed: 14", "seed: 15")
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    screens = {}
    for name, arguments in {
        "run.txt": [FIRST],
        "epochs.txt": ["*", "Epochs"],
        "time.txt": [FIRST, "--", "--time"],
    }.items():
        assert main(["explain", str(experiment), *arguments]) == 0
        printed = capsys.readouterr().out.replace(str(experiment), "EXPERIMENT")
        screens[name] = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    assert screens == golden("explain", screens)
    assert [line for text in screens.values() for line in text.splitlines() if len(line) > 80] == []


def test_an_agent_receives_the_same_in_few_bytes(root: Path, sweep: Path) -> None:
    assert scaffold(sweep).ok
    change(sweep / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")
    before = everything(sweep)
    arguments = {"experiment": str(sweep), "explain": True}
    one, several, wrong, plain = call(
        root,
        ("plan_runs", arguments | {"only": FIRST}),
        ("plan_runs", arguments | {"only": "rank*"}),
        ("plan_runs", arguments | {"only": "rnk8_lr1e-5"}),
        ("plan_runs", arguments | {"explain": False, "only": FIRST}),
    )
    data = one.structured_content or {}
    assert data["counts"] == {"runs": 1, "settings": len(data["settings"]), "not_arrived": 2, "warnings": 0}
    (epochs,) = [each for each in data["settings"] if each["field"] == "epochs"]
    assert epochs["value"] == 5
    assert epochs["former"].startswith("2,")
    assert all(" is 2 (expected 5)" in each for each in epochs["arrives"])
    assert "tool" not in data["next"]
    for result in (one, several):
        assert len(json.dumps(result.structured_content)) < 12_000
    assert (several.structured_content or {})["counts"]["runs"] == len(RUNS)
    assert wrong.is_error
    assert (wrong.structured_content or {})["error"]["problems"][0]["code"] == "unknown-name"
    assert "levels" in (plain.structured_content or {})
    assert everything(sweep) == before
