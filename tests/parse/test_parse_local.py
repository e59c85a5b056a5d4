import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.parse.local import scratch_directory
from support.documents import LOCAL, SUMMARY, local_md, parsed, refusal, summary, told
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from support.sampling import spread
from support.wording import absent


def environment(local: str) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in parsed(local=local).environment.items()}


REQUIRED = {"conda_env": "tune", "my_wandb_project": "words", "output_dir_base": "/scratch/out"}


def test_plain_lines_bullets_and_bold_labels_are_equivalent() -> None:
    plain = "conda_env: tune\nmy_wandb_project: words\noutput_dir_base: /scratch/out\n"
    bold = "- **Conda environment:** `tune`\n- **Wandb project**: words\n- **Outputs**: `/scratch/out/`\n"
    assert environment(plain) == environment(bold) == environment(local_md()) == REQUIRED


def test_a_setting_that_is_left_open_is_not_set() -> None:
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
    spread(
        ["../x", "/abs", "a b", "$(id)", "`` `id` ``", "-x", "a;b", "a..b", "a&quot;b", "a\u200bb", "ａ", "a'b", "${x}",
         "a\u202eb", "x" * 300],
        every=4,
    ),
)  # fmt: skip
def test_a_setting_that_is_not_a_plain_name_is_refused(name: str, value: str) -> None:
    problems = refusal(parsed, local=local_md(**{name: value}))
    assert [(p.code, p.field, p.file) for p in problems] == [("invalid-value", name, LOCAL)]


@pytest.mark.parametrize("name", ["account", "conda_env"])
def test_a_setting_cannot_contain_a_newline(name: str) -> None:
    local = local_md(**{name: "a\n  --wrap=id"})
    assert [(p.code, p.field) for p in refusal(parsed, local=local)] == [("invalid-value", name)]


@pytest.mark.parametrize("value", ["59", "0", "12:99x", "unlimited"])
def test_a_time_limit_that_slurm_reads_differently_is_refused(value: str) -> None:
    assert told(refusal(parsed, local=local_md(time=value))) == [("invalid-value", "time", LOCAL, 6)]


@pytest.mark.parametrize("name", ["output_dir_base", "working_dir", "models_dir"])
@pytest.mark.parametrize("value", ["/a/../b", "~/x", "/x/$USER", "/a'b", "/a;b"])
def test_an_unsafe_path_is_refused_once(name: str, value: str) -> None:
    problems = refusal(parsed, EXAMPLE_SUMMARY.replace("/scratch", "/data"), local=local_md(**{name: value}))
    assert [(p.code, p.field, p.file) for p in problems] == [("invalid-value", name, LOCAL)]


def test_an_unsafe_models_directory_is_not_reported_as_missing_model_paths() -> None:
    text = EXAMPLE_SUMMARY.replace("- **Llama-3.2-1B-Instruct**", "- **Other**").replace("- Models:", "- Else:")
    problems = refusal(parsed, text, local=local_md(models_dir="~/models"))
    assert told(problems) == [("invalid-value", "models_dir", LOCAL, 6)]


def test_a_setting_given_twice_is_refused_unless_the_values_are_equal() -> None:
    local = EXAMPLE_LOCAL + "\nconda_env: other\n"
    (problem,) = refusal(parsed, local=local)
    assert told([problem]) == [("ambiguous", "conda_env", LOCAL, 39)]
    assert absent(problem.message, 22) == []
    assert environment(EXAMPLE_LOCAL + "\nconda_env: cruijff\n")["conda_env"] == "cruijff"


def test_settings_in_fences_and_comments_are_ignored() -> None:
    local = local_md() + "\n```\nconda_env: other\n```\n\n<!--\nconda_env: third\n-->\n"
    assert environment(local) == REQUIRED


def test_nested_bullets_are_read() -> None:
    assert environment(local_md() + "- SLURM\n  - Account: lab\n")["account"] == "lab"


def test_modules_are_read_in_order_from_the_block_of_their_section() -> None:
    block = "## Module System\n```bash\nmodule purge\nmodule load a/1 b\nmodule add c/2.0 # why\nmodule load a/1\n```\n"
    assert environment(local_md() + block)["modules"] == "a/1,b,c/2.0"
    assert environment(local_md(modules="`a/1`"))["modules"] == "a/1"
    assert environment(local_md(modules="a/1, b"))["modules"] == "a/1,b"


@pytest.mark.parametrize("line", ["module load $(id)", "module load 'a b'", "module load ../x", "module load a;id"])
def test_modules_that_are_not_plain_names_are_refused(line: str) -> None:
    local = local_md() + f"## Modules\n```\n{line}\n```\n"
    assert told(refusal(parsed, local=local)) == [("invalid-value", "modules", LOCAL, 8)]


def test_a_block_without_module_lines_or_with_an_open_quote_gives_no_module() -> None:
    local = local_md() + "## Modules\n```\necho 'x\nmodule list\n```\n"
    assert environment(local) == REQUIRED


@pytest.mark.parametrize(
    ("local", "expected"),
    [(EXAMPLE_LOCAL, "/scratch/gpfs/LAB/ada"), ("scratch_dir: ~/x", None), ("nothing", None)],
)
def test_the_scratch_directory_is_a_plain_path_or_none(local: str, expected: str | None) -> None:
    assert scratch_directory(local, LOCAL) == expected


def test_an_account_of_a_different_service_is_not_slurms() -> None:
    text = local_md(account="lab") + "\n## GitHub\n- **Account**: me\n- **Time**: UTC\n"
    assert parsed(local=text).environment["account"].value == "lab"


def remarks(local: str) -> list[tuple[str, int | None]]:
    return [(w.code, w.line) for w in parsed(local=local).warnings]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("## Weights & Biases\n- Account: ada\n", {}),
        ("## Google Cloud\n### Defaults\n- Account: ada\n", {}),
        ("## Jira\n- Default project: other\n", {}),
        ("## SLURM\n### Hugging Face\n- Account: ada\n", {}),
        ("- Code directory: /home/ada/code\n", {}),
        ("- Working directory: /w\n  - Account: lab\n", {"account": "lab", "working_dir": "/w"}),
        ("- see the wiki: conda_env=tune\n- https://example.org/?account=ada\n", {}),
        ("## Anything\n**SLURM:**\naccount:\npartition:\ngpus: 2\n", {"gpus": 2}),
        ("partition:\nfoo: bar\n", {}),
        ("scratch_dir=/scratch/a:b\n", {"scratch_dir": "/scratch/a:b"}),
        ("## HPC\n- Account: lab\n- GPUs: 2\n", {"account": "lab", "gpus": 2}),
        ("## HPC\n### Della\n- Account: lab\n", {"account": "lab"}),
        ("- SLURM\n  - Account: lab\n- GitHub\n  - Account: ada\n", {"account": "lab"}),
        ("**SLURM:**\naccount: lab\npartition:\n\n**Hugging Face**\n\n- Account: ada\n", {"account": "lab"}),
        ("## Anything\n- SLURM account: lab\n", {"account": "lab"}),
        ("## Zoom\n- SBATCH_ACCOUNT=lab\n", {"account": "lab"}),
        ("## SLURM\n- Account (ask Bob): lab\n- Time limit: (none)\n", {"account": "lab"}),
        ("## Examples\n### Module System\n```\nmodule load a\n```\n", {}),
        ("## Python modules\n```\nml = 3\n```\n", {}),
    ],
)
def test_a_label_is_used_only_if_it_clearly_means_the_setting(section: str, expected: dict[str, Scalar]) -> None:
    local = local_md() + "\n" + section
    assert environment(local) == REQUIRED | expected
    assert remarks(local) == []


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("## More\n- Account: lab\n", [8]),
        ("- Paths\n  - Account: lab\n", [8]),
        ("## More\n- Account: see the wiki\n- GPUs: several\n", []),
        ("## Hardware\n- GPUs: 8\n- GPU type: H200\n", [8, 9]),
        ("Memory: as told\n\nCPUs: many\n", [7, 9]),
        ("## HPC\n- nodelist: gpu01\n- Username: ada\n- Acount: lab\n- Seed: 7\n- Scheduler: SLURM\n", [8, 10, 11]),
        ("## SLURM\n- **Account** lab\n- Partition → gpu\n- Ask Ada.\n- Notes: none of it is tested\n", [8, 9]),
        ("## SLURM\n- Nodes: (none)\n- Email: `<yours>`\n- Reservation: TODO\n", []),
        ("## SLURM\n```\nCluster: della\npartition: gpu\n```\n", [10]),
        ("## SLURM\n|  |  |\n|---|---|\n| Nodelist | short |\n|  | x |\n", [10, 11]),
        ("## Cluster\n| Partition | GPUs |\n|---|---|\n| gpu | 8 |\n", [8]),
        ("## Notes\n| Person | Office |\n|---|---|\n| Ada | 8 |\n", []),
        ("## Modules\n- anaconda3\n- none\n- ml is short for machine learning\n- Python: python/3\n", [8, 10, 11]),
        ("## Running\n- `module load a/1`\n- `ml b/2`\n- `ml models`\n", [8, 9]),
    ],
)
def test_a_possible_setting_that_is_not_used_is_reported(section: str, lines: list[int]) -> None:
    local = local_md() + "\n" + section
    assert environment(local) == REQUIRED
    assert remarks(local) == [("unused-field", line) for line in lines]


@pytest.mark.parametrize(
    ("block", "names"),
    [
        ("ml a/1 b", "a/1,b"),
        ("ml\nml purge\nml avail cuda\nml add a", "a"),
        ("$ module --quiet load a; module load b && conda activate tune", "a,b"),
        ("module purge; module load a  # why", "a"),
    ],
)
def test_every_usual_way_to_load_modules_is_read(block: str, names: str) -> None:
    local = local_md() + f"## Modules\n```\n{block}\n```\n"
    assert environment(local)["modules"] == names
    assert remarks(local) == []


def test_modules_may_be_given_as_a_command_or_as_bullets() -> None:
    assert environment(local_md(modules="`module load a/1 b`"))["modules"] == "a/1,b"
    assert environment(local_md() + "- Modules:\n  - `a/1`\n  - b/2\n")["modules"] == "a/1,b/2"
    assert remarks(local_md() + "- Modules:\n  - `a/1`\n  - b/2\n") == []


@pytest.mark.parametrize("line", ["module load a || exit 1", "module load 'x", "ml -gcc", "module load a&&b"])
def test_a_module_command_that_cannot_be_read_is_refused(line: str) -> None:
    problems = refusal(parsed, local=local_md() + f"## Modules\n```\n{line}\n```\n")
    assert told(problems) == [("invalid-value", "modules", LOCAL, 8)]


@pytest.mark.parametrize("line", ["module swap gcc intel", "module use /opt/ours", "ml unload a"])
def test_an_unsupported_change_of_modules_is_reported(line: str) -> None:
    assert remarks(local_md() + f"## Modules\n```\n{line}\n```\n") == [("unused-field", 8)]


@pytest.mark.parametrize(
    "value",
    ["YOUR_ACCOUNT", "`your-account`", "TODO", "todo: ask Ada", "CHANGEME", "xxx", "?", "[your account]", "{account}",
     "NAME", "not set", "...", "no account"],
)  # fmt: skip
def test_a_placeholder_is_unset(value: str) -> None:
    assert environment(local_md(account=value)) == REQUIRED


@pytest.mark.parametrize("value", ["todo-env", "xx", "changement", "name", "yours"])
def test_a_name_that_resembles_a_placeholder_is_a_name(value: str) -> None:
    assert environment(local_md(conda_env=value))["conda_env"] == value


@pytest.mark.parametrize("path", ["/path/to/outputs", "/scratch/your_netid/out", "/CHANGEME/out"])
def test_a_path_with_a_placeholder_is_refused(path: str) -> None:
    (problem,) = refusal(parsed, local=local_md(output_dir_base=path))
    assert told([problem]) == [("invalid-value", "output_dir_base", LOCAL, 5)]
    assert problem.actual == path
    placeholders = ("/path/to", "your_netid", "CHANGEME")
    assert absent(problem.message, *(f"'{each}'" for each in placeholders if each in path)) == []


@pytest.mark.parametrize("value", ["null", "~", ""])
def test_null_in_yaml_is_unset(value: str) -> None:
    local = f"---\nconda_env: tune\nmy_wandb_project: words\noutput_dir_base: /scratch/out\naccount: {value}\n---\n"
    assert environment(local) == REQUIRED


def test_a_yaml_block_belongs_to_the_topic_of_its_section() -> None:
    core = "conda_env: tune\nmy_wandb_project: words\noutput_dir_base: /scratch/out\n"
    local = f"## SLURM\n```yaml\n{core}time: 1:00:00\n```\n## Hugging Face\n```yaml\naccount: ada\n```\n"
    assert environment(local) == REQUIRED | {"time": "1:00:00"}
    assert remarks(local) == []


@pytest.mark.parametrize(("value", "quoted"), [("default", "`default`"), ("Any", "`Any`")])
def test_a_word_that_may_mean_none_is_refused_with_the_choices(value: str, quoted: str) -> None:
    (problem,) = refusal(parsed, local=local_md(partition=value))
    assert told([problem]) == [("ambiguous", "partition", LOCAL, 6)]
    assert "'(none)'" in problem.fix
    assert quoted in problem.fix
    assert environment(local_md(partition=quoted))["partition"] == value


def test_top_level_headings_separate_sections() -> None:
    local = local_md() + "\n# SLURM\n- Account: lab\n\n# GitHub\n- Account: ada\n"
    assert environment(local) == REQUIRED | {"account": "lab"}


@pytest.mark.parametrize(
    ("directory", "is_told"),
    [("`/scratch/out/`", False), ("/scratch/./out", False), ("/scratch/out/sweep", False), ("(none)", False),
     ("`/scratch/other`", True), ("~/out", True)],
)  # fmt: skip
def test_an_unused_checkpoint_directory_is_reported(directory: str, is_told: bool) -> None:
    experiment = parsed(summary(output=directory))
    assert experiment.environment["output_dir_base"].value == "/scratch/out"
    assert told(experiment.warnings) == [("overridden", "output_dir_base", SUMMARY, 27)] * is_told


APART = [
    "Debugging", "For debugging only", "Evaluation jobs", "CPU jobs", "Preprocessing", "Old cluster (retired)",
    "Adroit (only for tests)", "Interactive sessions", "Jupyter", "CPU-only jobs", "CPU partition", "Batch evaluation",
    "Jobs on CPU nodes", "CPU batch jobs",
]  # fmt: skip
OF_THE_JOBS = [
    "GPU and CPU jobs", "CPU limits for jobs", "Interactive and batch jobs", "Debug output", "CPU and memory per node",
    "Job CPU and memory", "CPU / memory of jobs", "Training and evaluation jobs", "Jobs (not for evaluation)",
    "CPU and memory",
]  # fmt: skip


@pytest.mark.parametrize("title", spread(APART, every=2))
@pytest.mark.parametrize(
    "form", ["## {}\n\n- QOS: debug\n", "- {}:\n  - QOS: debug\n", "## {}\n\n```\n#SBATCH --qos=debug\n```\n"]
)
def test_settings_of_other_jobs_are_not_used_and_reported(title: str, form: str) -> None:
    experiment = parsed(local=local_md() + f"\n## SLURM Defaults\n\n- Account: lab\n\n{form.format(title)}")
    assert {name: setting.value for name, setting in experiment.environment.items()} == REQUIRED | {"account": "lab"}
    assert [w.code for w in experiment.warnings if w.file == LOCAL] == ["unused-field"]


def test_settings_of_other_jobs_that_are_those_of_the_runs_have_no_warning() -> None:
    local = local_md() + "\n## SLURM Defaults\n\n- Account: lab\n\n## Evaluation\n\n- Account: lab\n- Tasks: all\n"
    assert [w.code for w in parsed(local=local).warnings if w.file == LOCAL] == []


@pytest.mark.parametrize("title", spread(OF_THE_JOBS, every=3))
def test_a_section_that_is_also_about_the_jobs_of_the_runs_is_read(title: str) -> None:
    assert environment(local_md() + f"\n## SLURM\n\n### {title}\n\n- QOS: short\n") == REQUIRED | {"qos": "short"}


@pytest.mark.parametrize(
    "lines",
    [
        "## Della\n\n- Account: lab\n- Constraint: gpu80\n\n## Adroit\n\n- Account: lab\n- Partition: class\n",
        "## Clusters\n\n- Della\n  - Account: lab\n  - QOS: a\n- Adroit\n  - Account: lab\n  - Partition: class\n",
    ],
)
def test_different_settings_of_two_clusters_are_refused(lines: str) -> None:
    problems = refusal(parsed, local=local_md() + f"\n{lines}")
    assert [(p.code, p.field, p.file) for p in problems] == [("ambiguous", "slurm", LOCAL)]


@pytest.mark.parametrize("contradiction", ["- Constraint: gpu40\n", "- Partition: a\n- Partition: b\n"])
def test_two_clusters_are_reported_with_a_contradiction_about_another_setting(contradiction: str) -> None:
    lines = "## Della\n\n- Account: lab\n- Constraint: gpu80\n\n## Adroit\n\n- Account: lab\n"
    fields = {p.field for p in refusal(parsed, local=local_md() + f"\n{lines}{contradiction}")}
    assert fields == ({"constraint"} if "Constraint" in contradiction else {"partition", "slurm"})


@pytest.mark.parametrize(
    ("first", "second"),
    [("Fairshare", "Requests"), ("Mandatory", "Performance"), ("Usual", "Special"), ("Who pays", "Where")],
)
@pytest.mark.parametrize("form", ["### {}\n\n- {}\n\n", "- {}\n  - {}\n"])
def test_settings_that_no_two_headings_share_are_read_with_a_warning(first: str, second: str, form: str) -> None:
    lines = form.format(first, "Account: lab") + form.format(second, "Constraint: gpu80")
    local = f"{local_md()}\n## SLURM\n\n{lines}"
    assert environment(local) == REQUIRED | {"account": "lab", "constraint": "gpu80"}
    found = [(w.code, w.field, w.severity) for w in parsed(local=local).warnings]
    assert found == [("ambiguous", "slurm", Severity.WARNING)]


@pytest.mark.parametrize(
    "lines",
    [
        "## Della\n\n- Account: lab\n- Constraint: gpu80\n\n## SLURM Defaults\n\n- Partition: class\n",
        "## Required\n\n- Account: lab\n- Constraint: gpu80\n\n## Optional\n\n- Partition: class\n",
        "## GPU constraint\n\n- Account: lab\n- Constraint: gpu80\n\n## Partition\n\n- Partition: class\n",
    ],
)
def test_settings_below_headings_that_are_not_clusters_are_read_together(lines: str) -> None:
    found = environment(local_md() + f"\n{lines}")
    assert found == REQUIRED | {"account": "lab", "constraint": "gpu80", "partition": "class"}


@pytest.mark.parametrize(
    ("loads", "is_refused"),
    [
        ("# Della\nmodule load anaconda3/2025.6\n# Adroit\nmodule load anaconda3/2024.2", True),
        ("module load apps/python/3.11\nmodule load apps/cuda/12.4 apps/gcc", False),
        ("module load gcc/11 openmpi/gcc/4.1\nmodule load gcc/11", False),
    ],
)
def test_two_versions_of_one_module_are_refused(loads: str, is_refused: bool) -> None:
    local = local_md() + f"\n## Module System\n\n```\n{loads}\n```\n"
    if is_refused:
        assert [(p.code, p.field, p.line) for p in refusal(parsed, local=local)] == [("ambiguous", "modules", 13)]
    else:
        assert "modules" in environment(local)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("- ~~**Account:** old~~", {}),
        ("- ~~Account: old~~\n- Account: lab", {"account": "lab"}),
        ("- **QOS:** ~~long~~ short", {"qos": "short"}),
        ("- ~~time: 0:10:00~~", {}),
        ("- ~~#SBATCH --qos=long~~", {}),
        ("- GPUs: ~~2~~ 4", {"gpus": 4}),
        ("| Setting | Value |\n|---|---|\n| ~~QOS~~ | ~~long~~ |\n| Account | ~~old~~ lab |", {"account": "lab"}),
    ],
)
def test_a_struck_out_setting_is_not_read(lines: str, found: dict[str, Scalar]) -> None:
    local = local_md() + f"\n## SLURM Defaults\n\n{lines}\n"
    assert environment(local) == REQUIRED | found
    codes = [(w.code, w.field, w.severity) for w in parsed(local=local).warnings]
    assert codes == [("unused-field", "struck", Severity.INFO)]


def test_a_full_width_colon_ends_a_label() -> None:
    assert environment(local_md() + "\n## SLURM Defaults\n\n- Account：lab\n- **Partition：** gpu\n") == REQUIRED | {
        "account": "lab", "partition": "gpu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ("- W&B: disabled", "disabled"),
        ("- W&B: online", "online"),
        ("- Weights & Biases: Off (no internet)", "disabled"),
        ("## Weights & Biases\n- Wandb: online", "online"),
        ("## Weights & Biases\n\n| Setting | Value |\n|---|---|\n| W&B | online |", "online"),
        ("- W&B: none", "disabled"),
        ("- W&B: yes (online)", "online"),
        ("- Log to wandb: no", "disabled"),
        ("- Disable Weights & Biases: yes", "disabled"),
        ("- Logger: none", "disabled"),
        ("```yaml\nlocal: 1\n```\n- wandb: online", "online"),
        ("## Debugging\n- W&B: disabled", None),
        ("## Git\n- Tracking: none", None),
        ("- Logger: csv", None),
        ("- W&B: yes", None),
        ("- W&B: https://wandb.ai/lab", None),
        ("- W&B: words", None),
        ("- W&B: words (offline)\n- W&B project: words", None),
        ("- W&B: logged in as ada", None),
        ("- W&B: ask Ada about the team", None),
        ("- Weights & Biases: installed", None),
        ("- W&B: `<mode>`", None),
    ],
)
def test_a_line_that_only_names_wandb_may_give_its_mode(line: str, mode: str | None) -> None:
    local = f"{local_md()}\n{line}\n"
    assert environment(local) == REQUIRED | ({"wandb_mode": mode} if mode else {})
    assert remarks(local) == []


@pytest.mark.parametrize(
    "line",
    [
        "- W&B: caps (entity lab, online)",
        "- W&B: caps",
        "- W&B: lab/caps",
        "- W&B: words (online)",
        "- W&B: yes (project caps)",
        "- W&B: entity lab",
        "- **Weights & Biases**: team `lab`, project `words`",
    ],
)
def test_another_setting_of_wandb_without_a_label_of_its_own_is_reported(line: str) -> None:
    found = [(w.code, w.field, w.line) for w in parsed(local=f"{local_md()}\n{line}\n").warnings]
    assert found == [("unused-field", "wandb", 7)]


def test_two_modes_of_wandb_are_refused() -> None:
    local = f"{local_md()}\n- W&B: disabled\n- W&B mode: online\n"
    assert [(p.code, p.field) for p in refusal(parsed, local=local)] == [("ambiguous", "wandb_mode")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("- **Account**\n  - `lab`\n- **Partition**\n  - `gpu`", {"account": "lab", "partition": "gpu"}),
        ("- Account\n  - lab\n- Time limit\n  - 4 hours", {"account": "lab", "time": "4:00:00"}),
        ("- Partition\n  - gpu", {"partition": "gpu"}),
        ("* Memory\n    * `64G`", {"mem": "64G"}),
        ("- Account\n  - (none)\n- Partition\n  - `<yours>`", {}),
        ("- Memory\n  - ask Ada", {}),
        ("- Account\n- Partition\n- Constraint", {}),
        ("- Memory\n  - CPU\n- Partition\n  - Account: lab", {"account": "lab"}),
    ],
)
def test_a_bullet_below_a_label_without_a_colon_is_its_value(lines: str, expected: dict[str, Scalar]) -> None:
    local = f"{local_md()}\n## SLURM Defaults\n\n{lines}\n"
    assert environment(local) == REQUIRED | expected
    assert remarks(local) == []


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("- Account\n  - lab\n  - other", 10),
        ("**Account**\n\n`lab`", 11),
        ("### Account\n\nlab", 11),
        ("### Account\n\n- lab", 11),
        ("Account\n: lab", 10),
    ],
)
def test_another_value_below_a_label_without_a_colon_is_reported(lines: str, line: int) -> None:
    local = f"{local_md()}\n## SLURM Defaults\n\n{lines}\n"
    assert environment(local) == REQUIRED
    assert [(w.code, w.field, w.line) for w in parsed(local=local).warnings] == [("unused-field", "Account", line)]
    given = f"{local_md()}\n## SLURM Defaults\n\n{lines}\n\n## SLURM\n\n- Account: lab\n"
    assert remarks(given) == []


IN_SENTENCES = [
    ("## SLURM\n\nJobs go to the account `lab` and the partition `gpu`.", "slurm", 9),
    ("## SLURM\n\n- Use account `lab` and partition `gpu`", "slurm", 9),
    ("## SLURM\n\n- Always use the `gpu` partition", "partition", 9),
    ("## SLURM\n\n- account lab\n- partition gpu", "account", 9),
    ("## SLURM\n\nWe submit to the gpu-long queue.", "partition", 9),
    ("## SLURM\n\nThe default time limit is 4 hours.", "time", 9),
    ("## SLURM\n\nJobs run for 4 hours on one node. They are cheap.", "time", 9),
    ("## SLURM\n\nUse partition gpu with a time limit of 4 hours.", "slurm", 9),
    ("## SLURM\n\n- Notes: jobs are charged to the account `lab`", "account", 9),
    ("## HPC\n\nOur SLURM account is `lab`.", "account", 9),
    ("## Running\n\nJobs use QOS `short`.", "qos", 9),
    ('All jobs run in the reservation "spring".', "reservation", 7),
    ("- SLURM: account lab, partition gpu, time 4:00:00", "slurm", 7),
    ("- SLURM defaults: account `lab`", "account", 7),
    ("- Jobs: account lab, QOS short", "slurm", 7),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "field", "line"), IN_SENTENCES)
def test_settings_of_jobs_in_sentences_are_reported(lines: str, field: str, line: int) -> None:
    local = f"{local_md()}\n{lines}\n"
    assert environment(local) == REQUIRED
    found = [(w.code, w.field, w.line) for w in parsed(local=local).warnings]
    assert found[0] == ("unused-field", field, line)
    settings = "- Account: lab\n- Time: 4:00:00\n- QOS: short\n- Reservation: spring\n"
    partition = "gpu-long" if "gpu-long" in lines else "gpu"
    assert remarks(f"{local}\n## SLURM\n\n{settings}- Partition: {partition}\n") == []


@pytest.mark.parametrize("sentence", ["Each job uses 4 GPUs.", "- 4 GPUs per job", "Jobs request 4 A100 GPUs."])
def test_gpus_of_jobs_in_sentences_are_compared_with_the_runs(sentence: str) -> None:
    local = f"{local_md()}\n## SLURM\n\n{sentence}\n"
    assert [(w.code, w.field, w.line) for w in parsed(local=local).warnings] == [("levels-differ", "gpus", 9)]
    assert remarks(local + "- GPUs: 4\n") == []


@pytest.mark.parametrize(
    "sentence",
    [
        "The partition `gpu-long` allows 7 days.",
        "- Partition gpu has a time limit of 24 hours.",
        "The time limit of the gpu partition is 24 hours.",
        "The maximum time limit is 24 hours, and at most 4 GPUs per job.",
        "Use the right partition and the correct account.",
        "Jobs run on our default partition, and are charged to the lab account.",
        "If a job needs more memory, use partition `big`.",
        "Use partition `a` for short jobs and partition `b` for long jobs.",
        "Never use the partition `debug`. Do not use QOS `long`.",
        "Debug with the partition `test`.",
        "CPU jobs go to the partition `cpu`.",
        "Log in with the account `ada`.",
        "- partition limits\n- account needed\n- queue times",
        "My jobs go to the `<partition>` partition.",
        "Each node has 4 GPUs, 128 cores and 512 GB of memory.",
        "Each job has 1 GPU.",
        "Check the queue with `squeue -u ada`; jobs write to `--output`.",
        "Use `squeue --account=lab` to see the jobs of the group.",
        "The time limit is 1 hour for the short QOS.",
        "Short jobs run in QOS `gpu-short`.",
        "Jobs default to 1 hour if no time is given.",
        "Jobs are routed to the right partition; do not specify `--partition=gpu`.",
    ],
)
def test_other_sentences_about_jobs_are_not_reported(sentence: str) -> None:
    assert remarks(f"{local_md()}\n## SLURM\n\n{sentence}\n") == []


@pytest.mark.parametrize(
    "lines",
    [
        "Submit everything with `sbatch --account=lab --qos=short`.",
        "SLURM options we always use: `--account=lab --qos=short`",
        "- sbatch options: --account=lab --qos=short",
        "## SLURM\nAlways pass `--account lab` and `-q short` to sbatch.",
        "## SLURM\nPut `#SBATCH --qos=short` and `#SBATCH --account=lab` first.",
        "## Running\n- Submit: `sbatch --qos=short -A lab run.slurm`",
        "## Running\nSubmit with sbatch --account=lab --qos=short.",
    ],
)
def test_options_of_sbatch_in_text_are_reported_as_those_in_a_block_of_code(lines: str) -> None:
    local = f"{local_md()}\n{lines}\n"
    assert environment(local) == REQUIRED
    line = 8 if "##" in lines else 7
    assert [(w.code, w.field, w.line) for w in parsed(local=local).warnings] == [("unused-field", "sbatch", line)]
    assert remarks(f"{local}\n## SLURM\n\n- Account: lab\n- QOS: short\n") == []


@pytest.mark.parametrize(
    "lines",
    [
        "Never use `sbatch --qos=long`.",
        "Use `--qos=long` with the other tool.",
        "## Evaluation\nSubmit with `sbatch --qos=long`.",
        "## SLURM\nFor interactive sessions, use `salloc --qos=interactive`.",
        "## SLURM\nCheck a script with `sbatch --test-only run.slurm`.",
    ],
)
def test_other_options_in_text_are_not_reported(lines: str) -> None:
    assert [w for w in remarks(f"{local_md()}\n{lines}\n") if w[0] != "levels-differ"] == []


@pytest.mark.parametrize("line", ["Tasks per node: 1", "ntasks: 1", "Number of tasks: `1`", "Tasks: 1 (one process)"])
def test_one_task_is_what_jobs_have(line: str) -> None:
    local = f"{local_md()}\n## SLURM\n\n- {line}\n"
    assert environment(local) == REQUIRED
    assert remarks(local) == []


def test_several_tasks_are_not_accepted() -> None:
    problems = refusal(parsed, local=f"{local_md()}\n## SLURM\n\n- Tasks per node: 2\n")
    assert told(problems) == [("misspelt-field", "Tasks per node", LOCAL, 9)]
    assert remarks(f"{local_md()}\n## SLURM\n\n- ntasks: 2\n") == [("unused-field", 9)]


@pytest.mark.parametrize(
    ("lines", "constraint"),
    [
        ("- Constraint: a100 | h100", "a100|h100"),
        ("- Constraint: `a100 & ib`", "a100&ib"),
        ("- Constraint: a100|  h100", "a100|h100"),
        ('```\n#SBATCH --constraint="a100 | h100"\n```', "a100|h100"),
    ],
)
def test_a_constraint_may_have_spaces_around_its_operators(lines: str, constraint: str) -> None:
    assert environment(f"{local_md()}\n## SLURM\n\n{lines}\n") == REQUIRED | {"constraint": constraint}


@pytest.mark.parametrize("value", ["a100 h100", "a100 |", "a100 & (gpu80 | gpu40)", "| a100"])
def test_a_constraint_without_a_feature_beside_an_operator_is_refused(value: str) -> None:
    problems = refusal(parsed, local=f"{local_md()}\n## SLURM\n\n- Constraint: {value}\n")
    assert told(problems) == [("invalid-value", "constraint", LOCAL, 9)]


@pytest.mark.parametrize("comment", ["# SBATCH --qos=old", "##SBATCH --qos=old", "## SBATCH --qos=old"])
def test_an_option_that_is_commented_out_in_a_block_is_not_a_setting(comment: str) -> None:
    local = f"{local_md()}\n## SLURM\n\n```bash\n#SBATCH --partition=gpu\n{comment}\n```\n"
    assert environment(local) == REQUIRED | {"partition": "gpu"}
    assert remarks(local) == []


@pytest.mark.parametrize("value", ["/scratch/$USER", "~/scratch", "/a/../b"])
def test_a_scratch_directory_that_is_no_plain_path_is_not_used(value: str) -> None:
    local = f"{local_md()}\n- Scratch directory: {value}\n"
    assert environment(local) == REQUIRED
    assert remarks(local) == [("unused-field", 7)]


PARTITIONS = "### Partitions\n\n| Partition | Max time |\n|---|---|\n| gpu | 24:00:00 |\n| gpu-long | 7-00:00:00 |\n"


def test_a_table_of_partitions_is_reported_if_the_partition_is_set_elsewhere() -> None:
    local = f"{local_md()}\n## SLURM\n\n- Partition: gpu\n\n{PARTITIONS}"
    assert environment(local) == REQUIRED | {"partition": "gpu"}
    assert remarks(local) == [("unused-field", 13)]
    problems = refusal(parsed, local=f"{local_md()}\n## SLURM\n\n{PARTITIONS}")
    assert told(problems) == [("misspelt-field", "table", LOCAL, 11)]
