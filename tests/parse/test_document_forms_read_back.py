"""Any plan that can be written in either form is read back unchanged."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.models import Plan
from support.corpus_cases import plan_of
from support.document_forms import FORMS, LOC, LOCAL, Form
from support.documents import MODEL, table
from support.examples import some_of

RATES: dict[str, Callable[[int, int], str]] = {
    "1e-5": lambda m, e: f"{m}e-{e}",
    "1E-5": lambda m, e: f"{m}E-{e}",
    "1e-05": lambda m, e: f"{m}e-{e:02d}",
    "0.00001": lambda m, e: f"{float(f'{m}e-{e}'):.{e}f}",
    "1 × 10^-5": lambda m, e: f"{m} × 10^-{e}",
    "1 x 10⁻⁵": lambda m, e: f"{m} x 10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[e]}",
    "1e-5 (default)": lambda m, e: f"{m}e-{e} (default)",
}
REMARKS = frozenset({"1e-5 (default)"})
PROMPT_LETTERS = "abcXYZ 0123456789.,:;!?(){}<>/#*_-+=é"
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "lora_rank": st.integers(1, 4096),
            "rate": st.tuples(st.integers(1, 9), st.integers(2, 9), st.sampled_from(sorted(RATES))),
            "batch_size": st.integers(1, 512),
            "seed": st.integers(0, 10**6),
            "epochs": st.integers(1, 99),
            "system_prompt": st.text(PROMPT_LETTERS, max_size=30).filter(lambda text: text != "???"),
            "dataset": st.from_regex(r"/data/[a-z][a-z0-9]{0,8}\.json", fullmatch=True),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda run: json.dumps({k: v for k, v in run.items() if k != "rate"}),
)


def expected(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for run in runs:
        digits, exponent, _ = run["rate"]
        made.append({**{k: v for k, v in run.items() if k != "rate"}, "lr": float(f"{digits}e-{exponent}")})
    return made


def read_back(plan: Plan) -> list[dict[str, Any]]:
    names = ("lora_rank", "batch_size", "seed", "epochs", "system_prompt", "lr")
    return [{**{k: run.settings[k].value for k in names}, "dataset": run.data_path} for run in plan.runs]


def cell(text: str) -> str:
    """Escape text so that a Markdown cell contains it literally."""
    escaped = "".join(f"\\{c}" if c in r"\`*_{}[]<>#|!&" else c for c in text)
    return f'"{escaped}"'


def named_by(form: Form, text: str) -> Plan:
    return plan_of((FORMS[form][0], text), (LOC, LOCAL))


@pytest.mark.examples
@given(RUNS)
@settings(max_examples=some_of(150), deadline=None)
def test_any_plan_written_in_markdown_is_read_back(runs: list[dict[str, Any]]) -> None:
    header = ["Run Name", "Model", "Rank", "LR", "Batch Size", "Seed", "Epochs", "System Prompt", "Dataset", "Type"]
    rows = []
    for i, run in enumerate(runs):
        digits, exponent, spelling = run["rate"]
        values = [
            str(run["lora_rank"]),
            RATES[spelling](digits, exponent),
            *(str(run[k]) for k in ("batch_size", "seed", "epochs")),
        ]
        rows.append([f"run{i}", MODEL, *values, cell(run["system_prompt"]), f"`{run['dataset']}`", "Fine-tuned"])
    models = f"## Resources\n\n### Models\n\n- **{MODEL}**: `/models/{MODEL}`\n"
    plan = named_by("markdown", f"# sweep\n\n## All Runs\n\n{table(header, rows)}\n{models}")
    assert json.dumps(read_back(plan), sort_keys=True) == json.dumps(expected(runs), sort_keys=True)


@pytest.mark.examples
@given(RUNS, st.booleans())
@settings(max_examples=some_of(150), deadline=None)
def test_any_plan_written_in_yaml_is_read_back(runs: list[dict[str, Any]], flow: bool) -> None:
    written = []
    for i, run in enumerate(runs):
        digits, exponent, spelling = run["rate"]
        rate: Any = RATES[spelling if spelling not in REMARKS else "1e-5"](digits, exponent)
        own = {k: v for k, v in run.items() if k not in {"rate", "dataset"}} | {"lr": rate}
        one = {
            "name": f"run{i}",
            "type": "fine-tuned",
            "model": MODEL,
            "parameters": own,
            "dataset_path": run["dataset"],
        }
        written.append(one)
    document = {
        "experiment": {"name": "sweep"},
        "models": {"base": [{"name": MODEL, "path": f"/models/{MODEL}"}]},
        "runs": written,
    }
    # torchtune's loader reads ._ and ._1 as numbers, but PyYAML writes them without quotes
    for run in runs:
        assume(not run["system_prompt"].startswith("._"))
    text = yaml.safe_dump(document, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    assert json.dumps(read_back(named_by("yaml", text)), sort_keys=True) == json.dumps(expected(runs), sort_keys=True)
