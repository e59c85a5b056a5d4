"""The texts of experiment_summary.md and claude.local.md."""

import posixpath
import re
from typing import Final

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.new.asked import COLUMNS, ONLY_LOCAL, TRAINING, Asked
from scaffold_torchtune.pipeline import Request
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.shared import templating
from scaffold_torchtune.shared.resources import TEMPLATES

_MARKUP: Final = re.compile(r"[\\`*\[\]<>&|]|(?<![^\W_])_|_(?![^\W_])")


def quoted(text: str) -> str:
    """The text in quotes that it does not hold; as it is where it holds all of them."""
    pairs = (('"', '"'), ("'", "'"), ("“", "”"))
    opening, closing = next((pair for pair in pairs if not any(quote in text for quote in pair)), ("", ""))
    return f"{opening}{text}{closing}"


def _prose(text: str) -> str:
    """Text as Markdown that is read back as it is."""
    return _MARKUP.sub(r"\\\g<0>", text).replace("\n", "&#10;").replace("\t", "&#9;")


def _code(value: Scalar) -> str:
    """A name or path as a code span: no such value holds a backtick."""
    return f"`{value}`"


def _number(value: Scalar) -> str:
    """A number in its shortest form; other values as they are."""
    return kinds.shortest_number(value) if isinstance(value, float) else str(value)


def summary_text(asked: Asked, request: Request) -> str:
    """The text of experiment_summary.md."""
    columns, rows, models = asked.columns, asked.rows(), [str(model) for model in asked.values["model"]]
    controls = models if asked.control else []
    count = f"{len(rows)} fine-tuned"
    if controls:
        count += f" + {len(controls)} control = {len(rows) + len(controls)} total"
    cells = [[_prose(n), str(row["model"]), *(_number(row[c]) for c in columns), "Fine-tuned"] for n, row in rows]
    cells += [[f"{model}_base", model, *("-" for _ in columns), "Control"] for model in controls]
    labels = {"model": "Model"} | {column: COLUMNS[column] for column in columns}
    several = {label: asked.values[name] for name, label in labels.items() if len(asked.values[name]) > 1}
    training = [
        (label, _prose(quoted(str(asked.one(name)))) if name == "system_prompt" else _number(asked.one(name)))
        for name, label in TRAINING.items()
        if name in asked.values and name not in columns
    ]
    base = asked.one("models_dir")
    lacking = asked.local is not None and "output_dir_base" not in asked.said
    context = {
        "name": _prose(str(asked.one("experiment_name"))),
        "created": request.now().date().isoformat(),
        "count": count,
        "variables": [(label, ", ".join(map(_number, values))) for label, values in several.items()],
        "columns": ["Run Name", *labels.values(), "Type"],
        "rows": cells,
        "models": [(m, _code(posixpath.join(str(base), m))) for m in models] if base else [],
        "dataset": _code(asked.one("dataset")),
        "training": training,
        "output": _code(asked.one("output_dir_base")) if lacking else None,
    }
    return templating.render("new_summary.md.j2", context, [TEMPLATES])


def local_text(asked: Asked) -> str:
    """The text of claude.local.md."""
    names = ("models_dir", *(name for name in ONLY_LOCAL if name != "modules"))
    values = {name: _code(asked.one(name)) if name in asked.values else "(leave empty)" for name in names}
    modules = [str(module) for module in asked.values.get("modules", ())]
    return templating.render("new_local.md.j2", {**values, "modules": modules}, [TEMPLATES])
