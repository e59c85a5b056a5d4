"""Replies for agents: a summary of one line, the next step, the log entries; shortened lists with correct counts."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.mcp_server import output
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results import reply
from scaffold_torchtune.results.reply import ARGUMENTS, bounded
from support.experiments import RUNS, actions, change, make_experiment, many_runs
from support.mcp_calls import STEPS, call, listed
from support.wording import absent

SMALL = 20_000
"""A number of bytes far above the size of any reply, and far below that of the shortened data."""


def replied(step: str, experiment: Path, **asked: Any) -> dict[str, Any]:
    wanted = reply.Call(reply.TOOLS[step], {"experiment": str(experiment)}, **asked)
    try:
        return reply.of_result(getattr(steps, step)(Request(experiment)), wanted)
    except Refused as refused:
        return reply.of_refusal(refused, wanted)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return make_experiment(tmp_path / "sweep")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scaffold 120 runs."""
    experiment = many_runs(tmp_path_factory.mktemp("many"), 120)
    assert steps.scaffold(Request(experiment)).ok
    return experiment


# --- guidance -------------------------------------------------------------------------------------------------------


def test_following_the_next_step_leads_to_a_passed_validation(root: Path, sweep: Path) -> None:
    tools = {tool.name: tool.input_schema for tool in listed(root)}
    follow: dict[str, Any] = {"tool": "parse_summary", "arguments": {"experiment": str(sweep)}}
    made = []
    while "tool" in follow:
        jsonschema.Draft202012Validator(tools[follow["tool"]]).validate(follow["arguments"])
        made.append(follow["tool"])
        (result,) = call(root, (follow["tool"], follow["arguments"]))
        data = result.structured_content or {}
        assert list(data)[:2] == ["summary", "next"]
        assert "\n" not in data["summary"]
        follow = data["next"]
    assert made == list(STEPS.values())
    assert data["summary"].startswith("Validation passed: ")
    assert absent(data["summary"], "4 of 4") == []
    assert "scaffold.log" in follow["first"]
    assert data["submit"] in (sweep / "scaffold.log").read_text()


def test_the_next_call_has_the_arguments_of_the_last_one(root: Path, sweep: Path) -> None:
    given = {"experiment": str(sweep), "names": "table", "setup_script": "bundled", "only": "x*", "local": None}
    (result,) = call(root, ("plan_runs", given))
    kept = {name: given[name] for name in ("experiment", "names", "setup_script")}
    assert (result.structured_content or {})["next"]["arguments"] == kept


def test_the_table_has_the_arguments_of_each_tool(root: Path) -> None:
    for tool in listed(root):
        assert list(ARGUMENTS[tool.name]) == list(tool.input_schema["properties"])


def test_a_reply_lists_the_log_entries_of_its_step(experiment: Path) -> None:
    heads = []
    for step in ("parse", "plan", "render", "setup", "validate"):
        heads += replied(step, experiment)["logged"]
    log = (experiment / "scaffold.log").read_text().splitlines()
    assert heads[0] in log
    told = [(head.partition("] ")[2] or head).partition(" (")[0] for head in heads]
    assert told == [action for i, action in enumerate(all_actions(log)) if action != all_actions(log)[i - 1]]
    assert replied("validate", experiment)["logged"] == []


def all_actions(log: list[str]) -> list[str]:
    return [line.partition("] ")[2] for line in log if line.startswith("[")]


def test_a_refused_writing_step_reports_its_log_entry(experiment: Path) -> None:
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** two")
    data = replied("render", experiment)
    assert data["summary"].startswith("Refused: ")
    assert absent(data["summary"], 1) == []
    assert data["next"]["tool"] == "render_yaml"
    assert data["counts"] == {"problems": 1}
    (head,) = data["logged"]
    assert head.endswith("SCAFFOLD_TORCHTUNE_REFUSED")
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED"]


@pytest.mark.parametrize("step", ["setup", "validate"])
def test_a_step_without_a_plan_suggests_the_tool_that_creates_it(experiment: Path, step: str) -> None:
    assert replied(step, experiment)["next"] == {"tool": "render_yaml", "arguments": {"experiment": str(experiment)}}


def test_a_failed_validation_lists_its_errors_and_suggests_no_tool(experiment: Path) -> None:
    assert steps.scaffold(Request(experiment)).ok
    for run in ("rank8_lr1e-5", "rank16_lr1e-5"):
        change(experiment / run / "finetune.yaml", "seed: 14", "seed: 15")
    data = replied("validate", experiment)
    assert data["summary"].startswith("Validation failed: ")
    assert absent(data["summary"], "2 of 4", "value-mismatch (2)") == []
    assert data["counts"]["failed"] == 2
    assert "tool" not in data["next"]
    assert data["submit"] == ""


@pytest.mark.long
def test_a_single_failed_setup_is_listed_first_with_its_reason(many: Path) -> None:
    result = steps.setup(Request(many))
    runs = [
        run.model_copy(update={"ok": i != 99, "reason": "" if i != 99 else "boom"}) for i, run in enumerate(result.runs)
    ]
    failed = result.model_copy(update={"runs": tuple(runs), "failed": 1, "succeeded": 119})
    data = reply.of_result(failed, reply.Call("run_setup"))
    assert re.findall(r"\d+", data["summary"])[:3] == ["120", "119", "1"]
    assert (data["runs"][0]["directory"], data["runs"][0]["reason"]) == (runs[99].directory, "boom")
    assert data["next"]["tool"] == "validate"
    assert "run_setup again" in data["next"]["first"]


# --- unchosen values ---


def test_defaults_of_a_plan_include_unchosen_values_of_finetune_yaml(tmp_path: Path) -> None:
    chosen = {"- **GPUs:** 1": "- **GPUs:** 1\n- **LoRA dropout:** 0.1\n- **Gradient clipping:** 1"}
    for replace, clipping in ((None, "none"), (chosen, None)):
        experiment = make_experiment(tmp_path / str(clipping), replace=replace)
        data = replied("plan", experiment)
        defaults = data["defaults"]
        assert defaults["lora_attn_modules"] == "q_proj,v_proj,output_proj"
        assert (defaults["wandb_mode"], defaults["seed"], defaults["apply_lora_to_mlp"]) == ("offline", 14, True)
        assert (defaults["optimizer"], defaults["dtype"], defaults["shuffle"]) == ("AdamW", "bf16", True)
        assert defaults.get("clip_grad_norm") == clipping
        assert data["common"].get("clip_grad_norm") == (None if clipping else 1)
        assert ("lora_dropout" in defaults) == (replace is None)
        steps.scaffold(Request(experiment))
        written = yaml.safe_load((experiment / RUNS[0] / "finetune.yaml").read_text())
        told = {name: each for name, each in defaults.items() if name in written}
        assert {"clip_grad_norm"} - told.keys() == ({"clip_grad_norm"} if replace else set())
        for name, each in told.items():
            found = (
                written[name]["_component_"].rpartition(".")[2] if isinstance(written[name], dict) else written[name]
            )
            assert each in ({None: "none"}.get(found, found), "get_cosine_schedule_with_warmup")


def test_values_of_finetune_yaml_that_differ_by_model_are_both_listed(tmp_path: Path) -> None:
    rows = {"| Llama-3.2-1B-Instruct | 16 |": "| Llama-3.3-70B-Instruct | 16 |"}
    path = "- **Llama-3.2-1B-Instruct**:"
    more = {
        path: f"- **Llama-3.3-70B-Instruct**: `/models/Llama-3.3-70B-Instruct`\n{path}",
        "- **GPUs:** 1": "- **GPUs:** 8",
    }
    recipe = {"- **Recipe:** lora_finetune_single_device\n": ""}
    data = replied("plan", make_experiment(tmp_path / "sweep", replace={**rows, **more, **recipe}))
    assert data["defaults"]["enable_activation_checkpointing"] == "false or true"


def test_samples_are_counted_in_the_plan(experiment: Path) -> None:
    (estimate,) = [each for each in replied("plan", experiment)["notes"] if each["code"] == "estimate"]
    assert absent(estimate["message"], "240 training samples") == []
    assert {None, ""}.isdisjoint(estimate.values()), "a note has no empty keys"


# --- numbers ---


@pytest.mark.parametrize(("number", "text"), [
    (1e-05, "1e-5"), (0.00005, "5e-5"), (2.5e-05, "2.5e-5"), (0.0001, "1e-4"), (0.05, "0.05"), (0.0, "0.0"),
    (14.0, "14.0"), (-1e-07, "-1e-7"), (1e300, "1e300"), (1e16, "1e16"), (8, "8"), (True, "true"), (None, "null"),
])  # fmt: skip
def test_a_number_is_written_in_its_shortest_form(number: object, text: str) -> None:
    assert reply.written({"lr": number}) == f'{{"lr":{text}}}'


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_written_data_read_back_with_the_same_values_and_types(data: Any) -> None:
    for text in (reply.written(data), reply.written(data, indent=2, ascii_only=True)):
        assert repr(json.loads(text)) == repr(data)


def test_a_text_that_looks_like_a_number_is_unchanged() -> None:
    data = {"1e-05": '0.00001 "1e-05" \\ 1e-05', "b": ["\\", 1e-05]}
    assert reply.written(data) == json.dumps(data, separators=(",", ":")).replace(",1e-05", ",1e-5")


def test_a_learning_rate_is_written_as_in_names_of_directories(
    experiment: Path, capsys: pytest.CaptureFixture[str], root: Path, sweep: Path
) -> None:
    assert main(["plan", str(experiment), "--json"]) == 0
    (replied_,) = call(root, ("plan_runs", {"experiment": str(sweep)}))
    (content,) = replied_.content
    for text in (capsys.readouterr().out, getattr(content, "text", "")):
        assert re.search(r'"lr": ?1e-5\b', text)
        assert not re.search(r"e-0[0-9]", text)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("step", ["parse", "plan", "render", "setup", "validate"])
def test_pages_list_every_run_once_and_counts_include_all_runs(many: Path, step: str) -> None:
    result = getattr(steps, step)(Request(many))

    def page(**asked: Any) -> dict[str, Any]:
        return reply.of_result(result, reply.Call(reply.TOOLS[step], {"experiment": str(many)}, **asked))

    start, seen, pages = 1, [], 0
    total = 120 if step != "parse" else 121  # 120 runs and the control
    while True:
        data = page(start=start)
        assert len(json.dumps(data)) < SMALL
        seen += [run.get("directory", run.get("name")) for run in data["runs"]]
        assert data.get("left_out", {}).get("runs", 0) == total - len(data["runs"])
        if start + len(data["runs"]) > total:
            break
        start += len(data["runs"])
        assert f"start={start}" in data["more"]
        pages += 1
    assert len(seen) == len(set(seen)) == total
    assert pages > 0
    assert "120" in page()["summary"]
    whole = page(whole=True)
    assert len(whole["runs"]) == total
    assert "left_out" not in whole


@pytest.mark.parametrize("step", ["parse", "plan"])
def test_a_sweep_of_usual_size_is_listed_completely(tmp_path: Path, step: str) -> None:
    experiment = many_runs(tmp_path, 32)
    data = replied(step, experiment)
    assert len(data["runs"]) == 32 + (step == "parse")
    assert "left_out" not in data


@pytest.mark.long
@pytest.mark.parametrize("step", ["parse", "plan"])
def test_values_that_all_runs_share_are_listed_once(many: Path, step: str) -> None:
    data = replied(step, many)
    whole = replied(step, many, whole=True)
    names = "name" if step == "parse" else "directory"
    full = {run[names]: run["parameters"] for run in whole["runs"]}
    listed = [run for run in data["runs"] if run.get("type", "fine-tuned") == "fine-tuned"]
    assert listed
    for run in listed:
        shared = full[run[names]].items() - run["parameters"].items()
        assert {name for name, _ in shared} == {"batch_size", "lora_rank", "model"} | (
            {"epochs"} if step == "plan" else set()
        )
        assert all(data["common"].get(name, value) == value for name, value in shared)
    one = replied(step, many, only=listed[0][names])
    assert one["runs"][0]["parameters"] == full[listed[0][names]]


@pytest.mark.long
@pytest.mark.parametrize("step", ["render", "setup", "validate"])
def test_successful_runs_are_counted_and_listed_only_on_request(many: Path, step: str) -> None:
    assert replied(step, many)["runs"] == []
    assert "left_out" not in replied(step, many)
    (first, *_) = replied(step, many, start=1)["runs"]
    assert replied(step, many, only=first["directory"])["runs"] == [first]


def test_only_runs_that_were_written_are_listed(tmp_path: Path) -> None:
    experiment = many_runs(tmp_path, 12)
    steps.scaffold(Request(experiment))
    gone = next(experiment.glob("*/setup_finetune.yaml"))
    gone.unlink()
    data = replied("render", experiment)
    assert [run["directory"] for run in data["runs"]] == [gone.parent.name]
    assert (data["created"], data["unchanged"]) == (1, 11)


def test_only_runs_with_errors_are_listed(tmp_path: Path) -> None:
    experiment = many_runs(tmp_path, 12)
    steps.scaffold(Request(experiment))
    bad = next(experiment.glob("*/finetune.yaml"))
    bad.write_text(bad.read_text().replace("seed: 14", "seed: 15"))
    data = replied("validate", experiment)
    assert [run["directory"] for run in data["runs"]] == [bad.parent.name]
    assert data["left_out"]["runs"] == 11


def test_infos_are_notes_and_not_warnings(tmp_path: Path) -> None:
    data = replied("plan", make_experiment(tmp_path / "sweep"))
    assert {each["severity"] for each in data["notes"]} == {"info"}
    assert "info" not in {each["severity"] for each in data["warnings"]}
    assert len(data["notes"]) == data["counts"]["infos"]


@pytest.mark.long
def test_a_pattern_selects_runs(many: Path) -> None:
    data = replied("plan", many, only="lr1.1e-?")
    assert [run["directory"] for run in data["runs"]] == ["lr1.1e-5", "lr1.1e-4"]
    assert data["counts"]["runs"] == 120


@pytest.mark.parametrize("step", ["parse", "plan", "render", "setup", "validate", "scaffold"])
def test_a_pattern_that_matches_no_run_is_reported(step: str, done: Path) -> None:
    result = getattr(steps, step)(Request(done))
    call = reply.Call(reply.TOOLS.get(step, ""), {"experiment": str(done)}, only="nope*")
    data = reply.of_result(result, call)
    assert not absent(data["summary"], "'nope*'")
    if step != "scaffold":
        assert (data["runs"], data["left_out"]) == ([], {"runs": len(result.runs)})
    for pattern in ("*rank8_*", None):
        assert "nope" not in reply.of_result(result, reply.Call(call.tool, only=pattern))["summary"]


@pytest.mark.parametrize("step", ["parse", "plan", "render", "setup", "validate"])
def test_a_pattern_may_match_names_in_the_table(step: str, done: Path) -> None:
    data = replied(step, done, only="*_rank16_lr5e-5")
    assert [run.get("directory") or run["name"] for run in data["runs"]] in (
        [["rank16_lr5e-5"], ["Llama-3.2-1B-Instruct_rank16_lr5e-5"]]
    )


@settings(deadline=60_000)
@given(st.lists(st.text(max_size=2000), max_size=60), st.dictionaries(st.text(max_size=9), st.text(max_size=3000)))
def test_long_values_are_shortened_and_counted(texts: list[str], values: dict[str, str]) -> None:
    problems = [finding("invalid-value", text, actual=text).model_dump(mode="json") for text in texts]
    runs = [{"directory": text, "ok": True, "parameters": values} for text in texts]
    data = {"problems": problems, "runs": runs, "config": values}
    out = bounded(data, reply.Call("x"))
    assert len(json.dumps(out, ensure_ascii=False).encode(errors="replace")) < SMALL + 12_000
    for name, whole in data.items():
        assert len(out[name]) + out.get("left_out", {}).get(name, 0) == len(whole)
    for run in out["runs"]:
        assert len(run["parameters"]) + run.get("left_out", {}).get("parameters", 0) == len(values)


def test_the_most_severe_findings_come_first_if_not_all_fit() -> None:
    infos = [finding("estimate", "x" * 300).model_dump(mode="json") for _ in range(60)]
    error = finding("invalid-value", "bad").model_dump(mode="json")
    out = bounded({"findings": [*infos, error]}, reply.Call("x"))
    assert out["findings"][0]["code"] == "invalid-value"
    assert bounded({"findings": [infos[0], error]}, reply.Call("x"))["findings"] == [infos[0], error]


# --- schemas --------------------------------------------------------------------------------------------------------


def test_replies_contain_every_key_of_their_schemas_with_valid_types(root: Path, sweep: Path) -> None:
    results = call(root, *((tool, {"experiment": str(sweep)}) for tool in STEPS.values()))
    for tool, result in zip(STEPS.values(), results, strict=True):
        (schema,) = (output(step.result) for step in reply.STEPS if step.tool == tool)
        named = schema["properties"].keys() - {"error"}
        assert named <= (result.structured_content or {}).keys()


# --- problems found in trials with agents -----------------------------------------------------------------------------


def test_summary_and_counts_of_render_agree(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    planned = replied("plan", experiment)["counts"]["warnings"]
    data = replied("render", experiment)
    assert planned > 0
    assert re.findall(r"\d+", data["summary"])[-2:] == ["0", str(planned)]
    assert data["counts"] == {"warnings": 0}


@pytest.mark.long
def test_lists_of_the_first_page_are_on_every_page(many: Path) -> None:
    first, later = replied("plan", many), replied("plan", many, start=100)
    for name in ("warnings", "varying", "excluded"):
        assert first[name] == later[name] != []
    assert first["runs"] != later["runs"] == replied("plan", many, whole=True)["runs"][99 : 99 + len(later["runs"])]


def test_a_field_has_its_line_in_each_document_that_gives_it(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    sources = replied("parse", experiment)["sources"]
    for document, label in (("experiment_summary.md", "- **GPUs"), ("claude.local.md", "- **Default GPUs")):
        lines = (experiment / document).read_text().splitlines()
        assert lines[sources[document]["gpus"] - 1].startswith(label)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("| 8, 16 |", "| 8, 32 |", "levels-differ"),
        ("rank8_lr1e-5 |", "rank4_lr1e-5 |", "name-mismatch"),
        ("| 16 | 5e-5 |", "| 16 | 5e-4 |", "odd-value"),
        ("| 16 | 5e-5 |", "| 16 | |", "blank-cell"),
        ("- **Epochs:** 2", "- **Epochs:** 3000", "unusual-value"),
    ],
)
def test_a_plan_with_doubtful_values_suggests_asking_the_user(experiment: Path, old: str, new: str, code: str) -> None:
    usual = replied("plan", experiment)["next"]
    assert code not in usual["first"]
    change(experiment / "experiment_summary.md", old, new)
    data = replied("plan", experiment)
    assert absent(data["next"]["first"], code) == []
    assert data["next"]["arguments"] == usual["arguments"]


def test_an_edited_file_suggests_the_user_and_overwrite(experiment: Path) -> None:
    assert steps.scaffold(Request(experiment)).ok
    change(experiment / "rank8_lr1e-5" / "finetune.yaml", "lora_rank: 8", "lora_rank: 9")
    judged = replied("validate", experiment)
    assert absent(judged["next"]["first"], "run_setup", "overwrite: true") == []
    data = replied("setup", experiment)
    assert data["next"]["tool"] == "run_setup"
    assert absent(data["next"]["first"], "validate", "overwrite: true") == []
    change(experiment / "rank8_lr1e-5" / "finetune.yaml", "lora_rank: 9", "lora_rank: 8")
    (experiment / "rank8_lr1e-5" / "finetune.slurm").unlink()
    assert "overwrite" not in replied("validate", experiment)["next"]["first"]


@pytest.mark.long
def test_a_long_submit_line_is_replaced_by_the_equivalent_command(many: Path) -> None:
    data = replied("validate", many)
    assert data["submit"] == f"scaffold-torchtune submit {many}"
    lines = [line for line in (many / "scaffold.log").read_text().splitlines() if "Submit with:" in line]
    assert lines[-1].count("lr") > 100
