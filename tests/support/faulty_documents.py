"""Documents of many layouts in which a required value is missing, wrong, or given twice."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_LOCAL, PARAMETERS
from support.advised import Documents, values_of

MODEL = "Llama-3.2-1B-Instruct"
COLUMNS = [name for name, known in PARAMETERS.items() if known.column and name not in {"model", "dataset"}]
LOCAL_NAMES = [*OF_LOCAL, *DIRECTORIES]
WRONG = ["two x three??", "a\\;b | c", "`1 / x`, `2 / y` (z)", "~3..4"]

# Layouts of a line with a label and a value.
LINES: list[str] = [
    "- **{0}:** {1}", "- **{0}**: {1}", "* {0}: {1}", "- `{0}`: {1}", "- {0} = {1}", "1. **{0}:** {1}",
    "- [x] **{0}:** {1}", "- **{0}:** {1} (a remark)", "  - **{0}:** {1}",
]  # fmt: skip
Draw = st.DrawFn


def _wrong(draw: Draw, field: str) -> str:
    values = [str(value) for value in values_of(field) if "\n" not in str(value)]
    one = draw(st.sampled_from(values))
    text = PARAMETERS.get(field, DIRECTORIES.get(field))
    if text is not None and text.kind == "text":
        return draw(st.sampled_from(["same as above", '"a" or "b"', "see the table ..."]))
    return draw(st.sampled_from([*WRONG, f"{one} or 1{one}", f"{one}, 1{one}"]))


def _given(draw: Draw, field: str) -> list[str]:
    """Return a document's text for a field: something wrong, or two values."""
    values = [str(value) for value in values_of(field) if "\n" not in str(value) and '"' not in str(value)]
    if draw(st.booleans()):
        return [_wrong(draw, field)]
    return [draw(st.sampled_from(values)), draw(st.sampled_from([*values, _wrong(draw, field)]))]


def _config(draw: Draw, lines: list[tuple[str, str]]) -> str:
    """Return lines of Configuration, in one of the layouts that people use."""
    layout = draw(st.sampled_from(["bullets", "table", "plain table", "paragraph", "apart", "below"]))
    form = draw(st.sampled_from(LINES))
    if layout == "table":
        rows = "".join(f"| {label} | {value.replace('|', chr(92) + '|')} |\n" for label, value in lines)
        return f"| Parameter | Value |\n|---|---|\n{rows}"
    if layout == "plain table":
        rows = "".join(f"{label} | {value.replace('|', chr(92) + '|')} | note\n" for label, value in lines)
        return f"Setting | Value | Notes\n--- | --- | ---\n{rows}"
    if layout == "paragraph":
        return "".join(f"{label}: {value}\n" for label, value in lines)
    if layout == "apart":
        return "\n".join(f"**{label}:** {value}\n" for label, value in lines)
    if layout == "below":
        return "".join(f"- **{label}:**\n  - {value}\n" for label, value in lines)
    head = "- Training settings\n" if form.startswith(" ") else ""
    return head + "".join(form.format(label, value) + "\n" for label, value in lines)


def _without(draw: Draw, *parts: str) -> list[str]:
    return [part for part in parts if draw(st.integers(0, 9))]


@st.composite
def markdown(draw: Draw) -> str:
    """Return a Markdown summary."""
    lines = [("Epochs", "2"), ("Batch size", "4")]
    lines = [line for line in lines if draw(st.integers(0, 5))]
    for field in draw(st.lists(st.sampled_from(COLUMNS), max_size=2, unique=True)):
        label = draw(st.sampled_from([field, field.replace("_", " ").title()]))
        lines = [line for line in lines if line[0].lower().replace(" ", "_") != field]
        lines += [(label, value) for value in _given(draw, field)]
    config = _config(draw, draw(st.permutations(lines)))
    level = draw(st.sampled_from(["##", "#"]))
    model = draw(st.sampled_from([
        f"- **{MODEL}**: `/models/x`", f"- **{MODEL}**: /a or /b", f"- **{MODEL}**: `/a`\n- **{MODEL}**: `/b`",
        f"- {MODEL}\n  - **Path:** /a;b\n  - **Size:** 2 GB",
        f"- **Location:** `/x;y`\n- **Models Used:**\n  - {MODEL}",
        f"- **meta-llama/{MODEL}**: /x|y", "", f"#### {MODEL}\n\n- **Path:** meta-llama/{MODEL}",
    ]))  # fmt: skip
    data = draw(st.sampled_from([
        "- **Path**: `/data/x.json`", "- **Path**: /a.json or /b.json", "- **Path**: `/a.json`\n- **Path**: `/b.json`",
        "", "/a.json\n/b.json", "- **Path:** tatsu-lab/alpaca", "- **Path**: [x](/a.json)",
    ]))  # fmt: skip
    title = draw(st.sampled_from(["# sweep\n", "# a/b\n", "# Experiment Plan\n", "a/b!\n===\n", "", "# Two words\n"]))
    output = draw(st.sampled_from(["", f"{level} Output\n- **Checkpoint directory:** /x;y\n- **W&B project:** a b\n"]))
    resources = draw(st.booleans())
    parts = _without(
        draw,
        f"{level} Configuration\n" + draw(st.sampled_from(["", "\n"])) + config + "\n" + output.replace("#", "##", 1),
        f"{level}# Models\n{model}\n" if resources else f"{level} Models\n\n{model}\n",
        f"{level}# Dataset\n{data}\n" if resources else f"{level} Dataset\n\n{data}\n",
    )
    parts = draw(st.permutations(parts))
    runs = f"{level} All Runs\n\n| Run Name | Model | LoRA Rank | Type |\n|---|---|---|---|\n"
    runs += f"| a | {MODEL} | 8 | Fine-tuned |\n| b | {MODEL} | 16 | Fine-tuned |\n"
    head = f"{level} Resources\n\n" if resources else ""
    end = draw(st.sampled_from(["", "\nThe end", "\n- a list", "\n```\ncode\n```"]))
    return f"{title}\n{runs}\n{head}" + "\n".join(parts) + end


def _yaml(value: str) -> str:
    return value if value.isalnum() else "'" + value.replace("'", "''") + "'"


@st.composite
def yaml(draw: Draw) -> str:
    """Return a summary in the YAML form."""
    controls = [("epochs", "2"), ("batch_size", "4")]
    controls = [line for line in controls if draw(st.integers(0, 3))]
    for field in draw(st.lists(st.sampled_from(COLUMNS), max_size=2, unique=True)):
        controls = [line for line in controls if line[0] != field]
        given = _given(draw, field)
        values = [_yaml(value) for value in given]
        forms = [values[0], f"[{', '.join(values)}]", "\n" + "".join(f"    - {value}\n" for value in values)]
        controls.append((field, draw(st.sampled_from(forms)).rstrip()))
    controls = draw(st.permutations(controls))
    is_flow = draw(st.booleans()) and not any("\n" in value for _, value in controls)
    if is_flow:
        section = "controls: {" + ", ".join(f"{key}: {value}" for key, value in controls) + "}"
    else:
        section = "controls:\n" + "".join(
            f"  {key}: {value}  # why\n" if "\n" not in value else f"  {key}:{value}\n" for key, value in controls
        )
    name = draw(st.sampled_from(["name: sweep", "name: a/b", "question: why", "name: [a, b]", "name: no"]))
    models = draw(st.sampled_from([
        f"models:\n  base:\n    - name: {MODEL}\n      path: /models/x\n", "models:\n", "",
        f"models: {{base: [{{name: {MODEL}, path: /a;b}}]}}", f"models:\n  base:\n  - name: {MODEL}\n  - name: other",
        "models:\n  base: []", f"models:\n  base:\n  - name: meta-llama/{MODEL}\n    path: 7",
    ]))  # fmt: skip
    data = draw(st.sampled_from([
        "data:\n  training:\n    path: /data/x.json\n", "data: {training: {path: /a;b.json}}", "data:\n", "",
        "data:\n  training:\n    format: json", "data: {training: {}}", "data:\n  training:\n    path: [/a, /b]",
    ]))  # fmt: skip
    output = draw(st.sampled_from(["", "output: {wandb_project: a b}", "output:\n  wandb_project: 12"]))
    runs = f"runs:\n  - name: a\n    type: fine-tuned\n    model: {MODEL}\n    parameters: {{lora_rank: 8}}\n"
    parts = _without(draw, f"experiment:\n  {name}", section, models, data, output)
    return "\n".join(draw(st.permutations([*parts, runs]))) + "\n"


@st.composite
def local(draw: Draw) -> str:
    """Return a claude.local.md."""
    lines = [("conda_env", "tune"), ("my_wandb_project", "words"), ("output_dir_base", "/scratch/out")]
    lines = [line for line in lines if draw(st.integers(0, 4))]
    for field in draw(st.lists(st.sampled_from(LOCAL_NAMES), max_size=3, unique=True)):
        if field != "modules":
            lines = [line for line in lines if line[0] != field]
            good = [str(value) for value in values_of(field)]
            given = draw(st.sampled_from([good[:1], _given(draw, field)]))
            lines += [(field, value) for value in given]
    layout = draw(st.sampled_from(["plain", "sections", "table", "front", "block", "equals", "bold", "titled"]))
    many = len({label for label, _ in lines}) < len(lines)
    if layout in {"front", "block"} and many:
        layout = "plain"
    if layout == "plain":
        return "# Local\n\n" + "".join(f"- {label}: {value}\n" for label, value in lines)
    if layout == "bold":
        return "".join(f"- **{label.replace('_', ' ').title()}**: `{value}`\n" for label, value in lines)
    if layout == "equals":
        return "# Local\n\n" + "".join(f"- {label}={value}\n" for label, value in lines)
    if layout == "table":
        rows = "".join(f"| {label} | {value.replace('|', chr(92) + '|')} |\n" for label, value in lines)
        return f"# Local\n\n## Defaults\n\n| Setting | Value |\n|---|---|\n{rows}"
    if layout == "front":
        return "---\n" + "".join(f"{label}: {_yaml(value)}\n" for label, value in lines) + "---\n\nText.\n"
    if layout == "block":
        return "# Local\n\n```yaml\n" + "".join(f"{label}: {_yaml(value)}\n" for label, value in lines) + "```\n"
    text = "".join(f"- **{label}**: {value}\n" for label, value in lines)
    if layout == "titled":
        return f"# GitHub\n\n- **Account**: ada\n\n# SLURM\n\n{text}\n# Example\n\n## SLURM Defaults\n\n- x\n"
    return f"# Local\n\n## SLURM Defaults\n{text}\n## Weights & Biases\n\n## Common Paths\ntext\n"


def documents() -> st.SearchStrategy[Documents]:
    """Return both documents of an experiment."""
    forms: dict[str, Callable[[], st.SearchStrategy[str]]] = {
        "experiment_summary.md": markdown, "experiment_summary.yaml": yaml
    }  # fmt: skip
    pairs: list[Any] = [st.tuples(st.just(name), form(), local()) for name, form in forms.items()]
    return st.one_of(pairs).map(lambda parts: {parts[0]: parts[1], "claude.local.md": parts[2]})
