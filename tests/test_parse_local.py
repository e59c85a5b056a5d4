import pytest

from documents import LOCAL, local_md, parsed, refusal, told
from example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from scaffold_torchtune.errors import Scalar
from scaffold_torchtune.parse import scratch_directory


def environment(local: str) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in parsed(local=local).environment.items()}


REQUIRED = {"conda_env": "tune", "my_wandb_project": "words", "output_dir_base": "/scratch/out"}


def test_plain_lines_bullets_and_bold_labels_mean_the_same() -> None:
    plain = "conda_env: tune\nmy_wandb_project: words\noutput_dir_base: /scratch/out\n"
    bold = "- **Conda environment:** `tune`\n- **Wandb project**: words\n- **Outputs**: `/scratch/out/`\n"
    assert environment(plain) == environment(bold) == environment(local_md()) == REQUIRED


def test_what_is_left_open_is_absent() -> None:
    local = local_md(account="(none)", partition="(leave empty)", constraint="`<your_constraint>`", time="-", gpus="")
    assert environment(local) == REQUIRED


def test_slurm_settings_are_typed() -> None:
    local = local_md(account="lab", partition="gpu", constraint="a100|h100", time="1-12:00:00", gpus="2")
    assert environment(local) == REQUIRED | {
        "account": "lab",
        "partition": "gpu",
        "constraint": "a100|h100",
        "time": "1-12:00:00",
        "gpus": 2,
    }


@pytest.mark.parametrize("name", ["account", "partition", "constraint", "conda_env", "my_wandb_project", "modules"])
@pytest.mark.parametrize(
    "value",
    ["../x", "/abs", "a b", "$(id)", "`` `id` ``", "-x", "a;b", "a..b", "a&quot;b", "a\u200bb", "ａ", "a'b", "${x}",
     "a\u202eb", "x" * 300],
)  # fmt: skip
def test_a_setting_that_is_no_plain_name_is_refused(name: str, value: str) -> None:
    problems = refusal(parsed, local=local_md(**{name: value}))
    assert [(p.code, p.field, p.file) for p in problems] == [("invalid-value", name, LOCAL)]


@pytest.mark.parametrize("name", ["account", "conda_env"])
def test_a_newline_cannot_come_into_a_setting(name: str) -> None:
    local = local_md(**{name: "a\n  --wrap=id"})
    assert [(p.code, p.field) for p in refusal(parsed, local=local)] == [("invalid-value", name)]


@pytest.mark.parametrize("value", ["59", "0", "12:99x", "unlimited"])
def test_a_time_limit_that_slurm_reads_otherwise_is_refused(value: str) -> None:
    assert told(refusal(parsed, local=local_md(time=value))) == [("invalid-value", "time", LOCAL, 6)]


@pytest.mark.parametrize("name", ["output_dir_base", "scratch_dir", "working_dir", "models_dir"])
@pytest.mark.parametrize("value", ["/a/../b", "~/x", "/x/$USER", "/a'b", "/a;b"])
def test_an_unsafe_path_is_refused_once(name: str, value: str) -> None:
    problems = refusal(parsed, EXAMPLE_SUMMARY.replace("/scratch", "/data"), local=local_md(**{name: value}))
    assert [(p.code, p.field, p.file) for p in problems] == [("invalid-value", name, LOCAL)]


def test_an_unsafe_models_directory_is_not_reported_as_missing_model_paths() -> None:
    text = EXAMPLE_SUMMARY.replace("- **Llama-3.2-1B-Instruct**", "- **Other**").replace("- Models:", "- Else:")
    problems = refusal(parsed, text, local=local_md(models_dir="~/models"))
    assert told(problems) == [("invalid-value", "models_dir", LOCAL, 6)]


def test_a_setting_given_twice_is_refused_unless_it_is_the_same() -> None:
    local = EXAMPLE_LOCAL + "\nconda_env: other\n"
    (problem,) = refusal(parsed, local=local)
    assert told([problem]) == [("ambiguous", "conda_env", LOCAL, 39)]
    assert "line 22" in problem.message
    assert environment(EXAMPLE_LOCAL + "\nconda_env: cruijff\n")["conda_env"] == "cruijff"


def test_settings_in_fences_and_comments_are_not_the_users() -> None:
    local = local_md() + "\n```\nconda_env: other\n```\n\n<!--\nconda_env: third\n-->\n"
    assert environment(local) == REQUIRED


def test_nested_bullets_are_read() -> None:
    assert environment(local_md() + "- SLURM\n  - Account: lab\n")["account"] == "lab"


def test_modules_come_in_order_from_the_block_of_their_section() -> None:
    block = "## Module System\n```bash\nmodule purge\nmodule load a/1 b\nmodule add c/2.0 # why\nmodule load a/1\n```\n"
    assert environment(local_md() + block)["modules"] == "a/1,b,c/2.0"
    assert environment(local_md(modules="`a/1`"))["modules"] == "a/1"
    assert environment(local_md(modules="a/1, b"))["modules"] == "a/1,b"


@pytest.mark.parametrize("line", ["module load $(id)", "module load 'a b'", "module load ../x", "module load a;id"])
def test_modules_that_are_no_bare_names_are_refused(line: str) -> None:
    local = local_md() + f"## Modules\n```\n{line}\n```\n"
    assert told(refusal(parsed, local=local)) == [("invalid-value", "modules", LOCAL, 8)]


def test_a_block_without_module_lines_or_with_an_open_quote_names_no_module() -> None:
    local = local_md() + "## Modules\n```\necho 'x\nmodule list\n```\n"
    assert environment(local) == REQUIRED


@pytest.mark.parametrize(
    ("local", "expected"),
    [(EXAMPLE_LOCAL, "/scratch/gpfs/LAB/ada"), ("scratch_dir: ~/x", None), ("nothing", None)],
)
def test_the_scratch_directory_is_a_plain_path_or_none(local: str, expected: str | None) -> None:
    assert scratch_directory(local, LOCAL) == expected


def test_an_account_of_another_service_is_not_slurms() -> None:
    text = local_md(account="lab") + "\n## GitHub\n- **Account**: me\n- **Time**: UTC\n"
    assert parsed(local=text).environment["account"].value == "lab"
