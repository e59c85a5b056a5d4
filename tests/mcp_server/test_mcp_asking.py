"""Ask the user through the client, in both eras of the protocol."""

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import ElicitRequestFormParams, ElicitResult

from scaffold_torchtune.mcp_server import calls, make_server
from support.experiments import RUNS, actions, change, everything, make_experiment
from support.mcp_calls import ERAS, STEPS, Era
from support.sampling import mostly_long, spread
from support.scaffolding import scaffold
from support.second_week import Week, grid
from support.wording import absent

Ask = Callable[[ElicitRequestFormParams], ElicitResult]
SCRIPT = "tools/torchtune/setup_finetune.py"


def called(
    root: Path, *calls: tuple[str, dict[str, Any]], era: Era, ask: Ask | None = None, pipe: bool = False
) -> list[dict[str, Any]]:
    """Return the structured results of some calls of one client, which answers questions with `ask`.

    The server is in this process, or with `pipe` in a separate one.

    """

    async def asked(context: Any, params: Any) -> ElicitResult:  # noqa: ARG001 - the name is the SDK's
        assert ask
        assert isinstance(params, ElicitRequestFormParams)
        return ask(params)

    async def main() -> list[dict[str, Any]]:
        process = StdioServerParameters(
            command=sys.executable, args=["-m", "scaffold_torchtune", "serve", "--root", str(root)]
        )
        server = process if pipe else make_server([root])
        async with Client(server, mode=era, elicitation_callback=asked if ask else None) as client:
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            return [result.structured_content or {} for result in results]

    return anyio.run(main)


class Person:
    """Answer one form after the other with the given contents, and keep the forms."""

    def __init__(self, *contents: dict[str, Any] | str) -> None:
        self.contents = list(contents)
        self.forms: list[ElicitRequestFormParams] = []

    def __call__(self, form: ElicitRequestFormParams) -> ElicitResult:
        self.forms.append(form)
        content = self.contents.pop(0)
        if isinstance(content, str):
            return ElicitResult(action=content)  # type: ignore[arg-type]  # "decline" or "cancel"
        return ElicitResult(action="accept", content=content)


@pytest.fixture
def lacking(root: Path) -> Path:
    return make_experiment(root / "sweep", without=["- **Epochs", "- **Default conda"])


@pytest.mark.long
@pytest.mark.parametrize(("era", "pipe"), spread(itertools.product(ERAS, [False, True]), every=3))
def test_all_missing_values_are_asked_in_one_form_and_the_call_continues(
    root: Path, lacking: Path, era: Era, pipe: bool
) -> None:
    person = Person({"epochs": 3, "conda_env": "torchtune"})
    (data,) = called(root, ("parse_summary", {"experiment": str(lacking)}), era=era, ask=person, pipe=pipe)
    (form,) = person.forms
    assert absent(form.message, 2) == []
    properties = form.requested_schema["properties"]
    assert {name: field["type"] for name, field in properties.items()} == {"epochs": "integer", "conda_env": "string"}
    assert absent(properties["epochs"]["description"], "epochs") == []
    assert set(form.requested_schema["required"]) == {"epochs", "conda_env"}
    assert "error" not in data
    assert {answer["field"]: answer["add"] for answer in data["answers"]} == {
        "epochs": "- **Epochs:** 3",
        "conda_env": "- **Default conda environment**: `torchtune`",
    }
    assert data["next"]["arguments"] == {
        "experiment": str(lacking),
        "answers": {"epochs": 3, "conda_env": "torchtune"},
    }


@pytest.mark.parametrize("era", ERAS)
def test_the_answers_lead_to_a_passed_validation_and_are_asked_once(root: Path, lacking: Path, era: Era) -> None:
    person = Person({"epochs": 3, "conda_env": "torchtune"})
    (data,) = called(root, ("parse_summary", {"experiment": str(lacking)}), era=era, ask=person)
    while "tool" in data["next"]:
        (data,) = called(root, (data["next"]["tool"], data["next"]["arguments"]), era=era, ask=person)
    assert data["passed"] is True
    assert len(person.forms) == 1
    assert "- **Epochs:** 3" in (lacking / "scaffold.log").read_text()
    assert "epochs: 3" in (lacking / "rank8_lr1e-5" / "finetune.yaml").read_text()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("word", ["decline", "cancel"])
def test_without_an_answer_the_questions_are_returned_and_nothing_is_written(
    root: Path, lacking: Path, era: Era, word: str
) -> None:
    person = Person(word)
    (data,) = called(root, ("render_yaml", {"experiment": str(lacking)}), era=era, ask=person)
    assert {question["field"] for question in data["error"]["ask"]} == {"epochs", "conda_env"}
    assert "tool" not in data["next"]
    assert data["next"]["first"]
    assert not (lacking / "rank8_lr1e-5").exists()
    assert actions(lacking) == ["SCAFFOLD_TORCHTUNE_REFUSED"]


@pytest.mark.parametrize("era", ERAS)
def test_render_asks_before_it_logs_a_refusal(root: Path, lacking: Path, era: Era) -> None:
    person = Person({"epochs": 3, "conda_env": "torchtune"})
    (data,) = called(root, ("render_yaml", {"experiment": str(lacking)}), era=era, ask=person)
    assert data["created"] == 4
    assert "SCAFFOLD_TORCHTUNE_REFUSED" not in actions(lacking)


@pytest.mark.long
@pytest.mark.parametrize("era", ERAS)
def test_a_bad_answer_is_asked_again_and_finally_refused(root: Path, lacking: Path, era: Era) -> None:
    person = Person({"epochs": "many", "conda_env": "torchtune"}, {"epochs": 2})
    (data,) = called(root, ("parse_summary", {"experiment": str(lacking)}), era=era, ask=person)
    assert "error" not in data
    assert data["config"]["epochs"] == 2
    assert list(person.forms[1].requested_schema["properties"]) == ["epochs"]
    assert absent(person.forms[1].requested_schema["properties"]["epochs"]["description"], "'many'") == []
    person = Person(*[{"epochs": "many", "conda_env": "torchtune"}] * 3)
    (data,) = called(root, ("parse_summary", {"experiment": str(lacking)}), era=era, ask=person)
    assert len(person.forms) == 3
    assert [question["field"] for question in data["error"]["ask"]] == ["epochs"]


@pytest.mark.parametrize("era", ERAS)
def test_the_user_selects_one_of_two_values(root: Path, era: Era) -> None:
    sweep = make_experiment(root / "sweep", replace={"- **Epochs:** 2": "- **Epochs:** 2\n- **Epochs:** 3"})
    person = Person({"epochs": "3"})
    (data,) = called(root, ("plan_runs", {"experiment": str(sweep)}), era=era, ask=person)
    assert person.forms[0].requested_schema["properties"]["epochs"]["enum"] == ["2", "3"]
    assert {run["parameters"]["epochs"] for run in data["runs"]} == {3}


@pytest.mark.parametrize("era", ERAS)
def test_a_client_without_forms_gets_the_questions_and_sends_answers(root: Path, lacking: Path, era: Era) -> None:
    arguments: dict[str, Any] = {"experiment": str(lacking)}
    (data,) = called(root, ("parse_summary", arguments), era=era)
    assert {question["field"] for question in data["error"]["ask"]} == {"epochs", "conda_env"}
    assert data["next"]["tool"] == "parse_summary"
    assert "answers" in data["next"]["first"]
    arguments["answers"] = {"epochs": 2, "conda_env": "torchtune"}
    results = called(root, *((STEPS[step], arguments) for step in ("parse", "plan", "render")), era=era)
    results += called(root, *((STEPS[step], {"experiment": str(lacking)}) for step in ("setup", "validate")), era=era)
    assert results[-1]["passed"] is True


@pytest.mark.long
@pytest.mark.parametrize("era", ERAS)
def test_the_user_decides_about_started_runs(root: Path, era: Era) -> None:
    sweep = make_experiment(root / "sweep")
    assert scaffold(sweep).ok
    (sweep / RUNS[0] / "slurm-1.out").write_text("")
    change(sweep / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    before = everything(sweep / RUNS[0])
    person = Person({"started": "keep"})
    planned, rendered = called(
        root,
        ("plan_runs", {"experiment": str(sweep)}),
        ("render_yaml", {"experiment": str(sweep)}),
        era=era,
        ask=person,
    )
    assert [group["what"] for group in planned["changes"]["groups"]] == ["changed", "changed"]
    assert "started: keep" in planned["next"]["first"]
    assert "tool" not in planned["next"]
    (form,) = person.forms
    assert form.requested_schema["properties"]["started"]["enum"] == ["keep", "replace"]
    assert (rendered["created"], rendered["kept"]) == (3, 1)
    assert everything(sweep / RUNS[0]) == before


def test_some_started_runs_are_kept_and_others_replaced(root: Path) -> None:
    sweep = make_experiment(root / "sweep", replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(root / "outputs")})
    assert scaffold(sweep).ok
    for run in RUNS[:2]:
        (sweep / run / "slurm-1.out").write_text("")
    change(sweep / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    before = everything(sweep / RUNS[0])
    given = {"experiment": str(sweep), "started": f"keep={RUNS[0]} replace={RUNS[1]}"}
    planned, rendered = called(root, ("plan_runs", given), ("render_yaml", given), era=ERAS[0])
    assert planned["next"]["arguments"] == given
    assert (rendered["created"], rendered["kept"]) == (3, 1)
    assert everything(sweep / RUNS[0]) == before
    given["started"] = "keep none of them"
    (refused,) = called(root, ("render_yaml", given), era=ERAS[0])
    assert [problem["field"] for problem in refused["error"]["problems"]] == ["started"]


@pytest.mark.long
@pytest.mark.parametrize("era", ERAS)
def test_the_user_assigns_one_of_two_equally_close_rows_to_a_run(root: Path, era: Era) -> None:
    week = Week(root / "sweep", root / "outputs", grid(lr=["1e-5", "5e-5"]))
    week.scaffold()
    week.rows = {"low a": {"lr": "1e-5", "seed": 1}, "low b": {"lr": "1e-5", "seed": 2}} | grid(lr=["5e-5"])
    week.write()
    person = Person({"directories": "low b=lr1e-5"})
    (planned,) = called(root, ("plan_runs", {"experiment": str(week.directory)}), era=era, ask=person)
    (form,) = person.forms
    assert form.requested_schema["properties"]["directories"]["enum"] == ["new", "low a=lr1e-5", "low b=lr1e-5"]
    assert [run["directory"] for run in planned["runs"]] == ["lr1e-5_seed1", "lr1e-5"], "lr5e-5 is unchanged"
    (rendered,) = called(root, (planned["next"]["tool"], planned["next"]["arguments"]), era=era)
    assert rendered["created"] == 2
    assert set(week.kinds().values()) == {"unchanged"}, "it is not asked again"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("choice", ["bundled", "own"])
def test_the_user_selects_the_setup_script_and_configures_their_own(root: Path, era: Era, choice: str) -> None:
    work = root / "work"
    (work / SCRIPT).parent.mkdir(parents=True)
    (work / SCRIPT).write_text("raise SystemExit('it ran')\n")
    line = "- **Working directory**: `"
    sweep = make_experiment(root / "sweep")
    local = sweep / "claude.local.md"
    kept = [each for each in local.read_text().splitlines(keepends=True) if "orking directory" not in each]
    local.write_text("".join(kept).replace("## HPC Environment\n", f"## HPC Environment\n\n{line}{work}`\n"))
    person = Person({"setup_script": choice})
    (data,) = called(root, ("plan_runs", {"experiment": str(sweep)}), era=era, ask=person)
    assert len(person.forms) == 1
    asked = person.forms[0].requested_schema["properties"]["setup_script"]
    assert asked["enum"] == ["bundled", "own"]
    assert str(work / SCRIPT) in json.dumps(asked)
    if choice == "bundled":
        assert data["setup"] == "bundled"
        assert data["next"]["arguments"]["setup_script"] == "bundled"
    else:
        assert "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT" in data["next"]["first"]
        assert "ask" not in data["error"]
        (problem,) = data["error"]["problems"]
        assert 'setup_script: "bundled"' in problem["fix"]
        assert f"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT={work / SCRIPT}" in problem["fix"]


@pytest.mark.parametrize("era", ERAS)
def test_a_problem_that_no_answer_can_fix_is_not_asked(root: Path, era: Era) -> None:
    sweep = make_experiment(root / "sweep", replace={" | 8 | 1e-5 |": " | eight | 1e-5 |"})
    person = Person()
    (data,) = called(root, ("parse_summary", {"experiment": str(sweep)}), era=era, ask=person)
    assert person.forms == []
    assert "ask" not in data["error"]
    assert [problem["line"] for problem in data["error"]["problems"]]


TWICE = "- **Time limit:** 1:00:00 (small)\n- **Time limit:** 2:00:00"


@pytest.mark.parametrize("era", mostly_long(ERAS, "auto"))
@pytest.mark.parametrize(
    ("replace", "answers"),
    [
        ({"# cap_4L_lora_lr_sweep": "# cap/4L"}, {"experiment_name": "named"}),
        ({"- **Epochs:** 2": f"- **Epochs:** 2\n{TWICE}"}, {"time": "1:00:00"}),
        ({"- **Epochs:** 2": "- **Epochs:** 2 (small), 3 (large)"}, {"epochs": "3"}),
        ({"- **GPUs:** 1": "- **GPUs:** many"}, {"gpus": 1}),
        ({"- **Default time**: `0:59:00`": "- **Default time**: soon"}, {"time": "36 hours"}),
    ],
)
def test_each_question_is_asked_once_if_the_answer_is_valid(
    root: Path, era: Era, replace: dict[str, str], answers: dict[str, Any]
) -> None:
    sweep = make_experiment(root / "sweep", replace=replace)
    person = Person(answers)
    (data,) = called(root, ("plan_runs", {"experiment": str(sweep)}), era=era, ask=person)
    (form,) = person.forms
    for name, field in form.requested_schema["properties"].items():
        assert answers[name] in field.get("enum", [answers[name]])
    assert "error" not in data
    (answer,) = data["answers"]
    assert (answer["field"], bool(answer["add"]), bool(answer["where"])) == (*answers, True, True)


@pytest.mark.parametrize("era", ERAS)
def test_an_answer_that_causes_a_second_question_is_kept(root: Path, era: Era) -> None:
    sweep = make_experiment(
        root / "sweep", replace={"/scratch/gpfs/LAB/pretrained-llms/Llama-3.2-1B-Instruct`": "/a;b`"}
    )
    person = Person(
        {"path of model Llama-3.2-1B-Instruct": "/x;y"}, {"path of model Llama-3.2-1B-Instruct": "/models/x"}
    )
    (data,) = called(root, ("plan_runs", {"experiment": str(sweep)}), era=era, ask=person)
    assert len(person.forms) == 2
    assert "error" not in data


@pytest.mark.parametrize(
    "text",
    [None, "", "x", "[]", "null", "{}", '{"rounds": 1}', '{"rounds": "1", "answers": {}}', "[" * 100_000, "\ud800",
     '{"rounds": -1, "answers": {}}', '{"rounds": 1e999, "answers": {}}', '{"rounds": 1, "answers": []}',
     '{"rounds": 1, "answers": {"epochs": [2]}}', '{"rounds": 99, "answers": {"epochs": 2}}',
     '{"rounds": 1, "answers": {"x": ' + "9" * 5_000 + "}}", '{"rounds": true, "answers": {}}'],
    ids=range(17),
)  # fmt: skip
def test_an_invalid_state_from_a_client_is_ignored(text: str | None) -> None:
    assert calls._state(text, {"epochs": 3}) == (0, {"epochs": 3})  # noqa: SLF001 - what a client hands back


def test_a_state_from_the_server_is_accepted() -> None:
    assert calls._state('{"rounds": 1, "answers": {"epochs": 2}}', {}) == (1, {"epochs": 2})  # noqa: SLF001
