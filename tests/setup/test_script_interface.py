"""The options that an external script reports for itself."""

import re
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.models import Interface, Option
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.setup.external import InterfaceFault, ask_interface
from scaffold_torchtune.system import processes
from support.experiments import change, make_experiment
from support.scaffolding import codes, refusal
from support.waiting import PATIENCE
from support.wording import absent

ANY = """\
import argparse, pathlib, sys
print("hello")
parser = argparse.ArgumentParser()
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--form", choices=["a", "b"], required=True)
parser.add_argument("--when", default=pathlib.Path("now"))
parser.add_argument("place", nargs="?")
arguments = parser.parse_args()
pathlib.Path("made").write_text("")
"""


def asked(folder: Path, text: str, timeout: float = PATIENCE) -> Interface:
    script = folder / "setup_finetune.py"
    script.write_text(text)
    return ask_interface(script, sys.executable, processes.environment(), timeout)


def test_options_are_reported_with_defaults_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert asked(tmp_path, ANY) == Interface(
        options={"rank": Option(default=8), "form": Option(required=True, choices=("a", "b")), "when": Option()}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["setup_finetune.py"]


def test_scripts_with_parse_known_args_report_options_too(tmp_path: Path) -> None:
    found = asked(tmp_path, ANY.replace("parse_args()", "parse_known_args()"))
    assert found.options is not None


def test_a_script_without_a_parser_is_not_run(tmp_path: Path) -> None:
    assert asked(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')") == Interface()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text", ["import argparse", "import argparse\n1 / 0", "import argparse\nargparse.ArgumentParser().parse_args()"]
)
def test_a_script_without_options_is_accepted(tmp_path: Path, text: str) -> None:
    assert asked(tmp_path, text) == Interface()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import argparse, of_nobody", "ModuleNotFoundError: No module named 'of_nobody'"),
        ("import argparse\nfrom sys import nothing_of_it", "ImportError: cannot import name 'nothing_of_it'"),
        ("import argparse\nif", "SyntaxError: invalid syntax"),
    ],
)
def test_a_script_that_can_never_run_is_a_fault(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InterfaceFault, match=f"^{re.escape(reason)}"):
        asked(tmp_path, text)


def test_a_script_that_does_not_answer_in_time_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InterfaceFault) as caught:
        asked(tmp_path, "import argparse, time\ntime.sleep(600)", timeout=1)
    assert absent(str(caught.value), "1 s") == []


def test_a_missing_python_or_script_is_a_fault(tmp_path: Path) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text(ANY)
    with pytest.raises(InterfaceFault, match=r": No such file or directory$"):
        ask_interface(script, str(tmp_path / "python"), {}, 5)
    with pytest.raises(InterfaceFault, match=r": No such file or directory$"):
        ask_interface(tmp_path / "none.py", sys.executable, {}, 5)


def test_an_invalid_answer_is_ignored(tmp_path: Path) -> None:
    odd = "import argparse, json\njson.dumps = lambda options: '[1]'\nargparse.ArgumentParser().parse_args()"
    assert asked(tmp_path, odd) == Interface()


def test_the_slurm_template_of_the_script_is_read(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "finetune_template.slurm").write_text(
        "module purge\nmodule load a/1 b/2\nmodule load c\n"
    )
    found = asked(tmp_path, "lines = [line for line in text if 'conda' not in line]")
    assert found == Interface(modules=("a/1", "b/2", "c"), drops_conda=True)


def test_a_script_that_cannot_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("import argparse, cruijff_kit_of_nobody")
    experiment = make_experiment(tmp_path / "sweep")
    before = sorted(path.name for path in experiment.iterdir())
    refused = refusal(steps.plan, experiment, setup_script=str(script))
    assert codes(refused) == ["package-missing"]
    assert absent(refused.problems[0].message, "'cruijff_kit_of_nobody'") == []
    script.write_text("import argparse\nif")
    assert codes(refusal(steps.plan, experiment, setup_script=str(script))) == ["script-unasked"]
    assert sorted(path.name for path in experiment.iterdir()) == before


def test_a_required_option_without_a_value_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--seed', required=True)\np.parse_args()"
    )
    refused = refusal(steps.plan, make_experiment(tmp_path / "sweep"), setup_script=str(script))
    assert {(p.code, p.field) for p in refused.problems} >= {
        ("missing-field", "seed"),
        ("untaken-setting", "lora_rank"),
    }


def test_undocumented_defaults_of_a_script_are_a_warning(tmp_path: Path) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("import sys\n")
    experiment = make_experiment(tmp_path / "sweep")
    found = steps.plan(Request(experiment, setup_script=str(script))).warnings
    (told,) = [each for each in found if each.code == "script-writes"]
    assert told.severity is Severity.WARNING
    names = "lora_alpha, lora_attn_modules, apply_lora_to_mlp, lora_dropout, lr_scheduler, num_warmup_steps, "
    assert absent(told.message, f"{names}weight_decay, gradient_accumulation_steps, max_seq_len and seed") == []
    assert not {"lora_rank", "lr", "batch_size", "epochs"} & set(told.message.replace(",", " ").split())
    lines = ["LoRA alpha", "LoRA dropout", "Warmup steps", "Weight decay", "Gradient accumulation steps", "Seed"]
    given = "".join(f"- **{line}:** 1\n" for line in lines).replace("dropout:** 1", "dropout:** 0.1")
    given += "- **LR scheduler:** cosine\n- **Max seq len:** 512\n"
    given += "- **LoRA attention modules:** q_proj, v_proj\n- **Apply LoRA to MLP:** yes\n"
    change(experiment / "experiment_summary.md", "- **Epochs:** 2\n", f"- **Epochs:** 2\n{given}")
    found = steps.plan(Request(experiment, setup_script=str(script))).warnings
    assert not [each for each in found if each.code == "script-writes"]


# A script of a lab: it reads setup_finetune.yaml, and writes its own accumulation.
OF_A_LAB = """\
import re, sys, pathlib
from scaffold_torchtune.setup_finetune import main
status = main([])
file = pathlib.Path("finetune.yaml")
file.write_text(re.sub("gradient_accumulation_steps: [0-9]+", "gradient_accumulation_steps: {}", file.read_text()))
sys.exit(status)
"""


@pytest.mark.long
@pytest.mark.parametrize(("steps_written", "passed"), [(1, True), (8, False)])
@pytest.mark.parametrize("stated", ["- **Effective batch size:** 4\n", "- **Gradient accumulation steps:** 1\n"])
def test_a_script_must_write_the_accumulation_of_the_stated_effective_batch_size(
    tmp_path: Path, stated: str, steps_written: int, *, passed: bool
) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text(OF_A_LAB.format(steps_written))
    experiment = make_experiment(tmp_path / "sweep", without=["_rank16_", "_rank8_lr5e-5", "**Runs:**"])
    change(experiment / "experiment_summary.md", "- **Epochs:** 2\n", f"- **Epochs:** 2\n{stated}")
    result = steps.scaffold(Request(experiment, setup_script=str(script)))
    name = "gradient_accumulation_steps"
    found = [f for run in result.validation.runs for f in run.findings if name in (f.field or "")]
    assert (result.ok, [(f.code, str(f.severity), f.expected) for f in found]) == (
        passed, [] if passed else [("value-mismatch", "error", 1)]
    )  # fmt: skip
    assert name not in next((f.message for f in result.plan.warnings if f.code == "script-writes"), "")
