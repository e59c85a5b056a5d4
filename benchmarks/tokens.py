"""Count the tokens of tools, skill and results of whole scaffolds, and compare them with their bounds.

    make tokens

Counted with the public tokenizer o200k_base. The server runs as a separate process, called over its pipe; results are
the structured content as compact JSON, which hosts show the model. The exit status is 1 if a bound is broken.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from validate_share import make_experiment

ROOT = Path(__file__).parent.parent
TOOLS = ("parse_summary", "plan_runs", "render_yaml", "run_setup", "validate")
TOOL_LIST, SKILL, ONE_RESULT = 2_500, 2_200, 6_000
SUMS = {8: 3_000, 1_000: 6_000}
MOST_CALLS = 6
HOME = "/home/ada/experiments"
"""The name that replaces the temporary directory, because the number of tokens of its random name varies."""

Texts = dict[str, str]


def compact(data: Any) -> str:
    """JSON as hosts show it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


async def listed(client: Client) -> Texts:
    """Return the list of tools with all schemas as it is served, each tool, and the server's instructions."""
    tools = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in (await client.list_tools()).tools
    ]
    each = {f"tool {tool['name']}": compact(tool) for tool in tools}
    return {"tool list": compact(tools), **each, "server instructions": client.instructions or ""}


async def called(client: Client, tool: str, experiment: Path, **given: Any) -> dict[str, Any]:
    """Return the structured result of a tool."""
    result = await client.call_tool(tool, {"experiment": str(experiment)} | given, read_timeout_seconds=600)
    return result.structured_content or {}


async def whole(client: Client, folder: Path, runs: int) -> Texts:
    """Return the results of a whole scaffold, following `next` from the first call to the last."""
    experiment = folder / f"of_{runs}"
    make_experiment(experiment, runs)
    results: Texts = {}
    tool: str | None = TOOLS[0]
    while tool:
        data = await called(client, tool, experiment)
        results[f"{runs} runs: {tool}"] = compact(data)
        if tool == "validate" and not (data["passed"] and data["checked"] == data["planned"] == runs):
            raise SystemExit(f"{experiment} did not pass: {data['summary']}")
        tool = data["next"].get("tool")
    if len(results) > MOST_CALLS:
        raise SystemExit(f"{len(results)} calls were needed")
    return results


async def changed(client: Client, folder: Path, runs: int) -> Texts:
    """Return the results after epochs changed while half of the runs were submitted: first refused, then kept."""
    experiment = folder / f"of_{runs}"
    for job, path in enumerate(sorted(experiment.glob("*/finetune.slurm"))[: runs // 2], start=1):
        (path.parent / f"slurm-{job}.out").touch()
    summary = experiment / "experiment_summary.md"
    summary.write_text(summary.read_text().replace("- **Epochs:** 2", "- **Epochs:** 3"))
    texts = {f"{runs} changed: plan_runs": compact(await called(client, "plan_runs", experiment))}
    for tool in TOOLS[1:]:
        given = {"started": "keep"} if tool in {"plan_runs", "render_yaml"} else {}
        data = await called(client, tool, experiment, **given)
        texts[f"{runs} changed, kept: {tool}"] = compact(data)
    if not data["passed"] or data["kept"] != runs // 2:
        raise SystemExit(f"{experiment} was not kept: {data['summary']}")
    return texts


def spoilt(folder: Path, name: str, runs: int, change: Callable[[str], str]) -> Path:
    """Return an experiment whose summary is changed."""
    experiment = folder / name
    make_experiment(experiment, runs)
    summary = experiment / "experiment_summary.md"
    summary.write_text(change(summary.read_text()))
    return experiment


def wide(text: str) -> str:
    """Return a table with twelve more columns and a long prompt in each row."""
    columns = ("Seed", "Epochs", "Weight Decay", "Warmup Steps", "LoRA Dropout", "Alpha", "Max Seq Len", "Packed")
    values = ("7", "3", "0.1", "11", "0.05", "64", "1024", "no")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("| Run Name"):
            lines[number] = f"{line} {' | '.join(columns)} | System Prompt |"
            lines[number + 1] += "---|" * (len(columns) + 1)
        elif line.startswith("| run"):
            prompt = f"Prompt of {line.split('|')[1]}: " + "say it again and again, " * 20
            lines[number] = f"{line} {' | '.join(values)} | {prompt}|"
    return "\n".join(lines)


def without(*fields: str) -> Callable[[str], str]:
    """Return a change that removes lines."""
    return lambda text: "\n".join(line for line in text.splitlines() if not any(field in line for field in fields))


async def worst(client: Client, folder: Path) -> Texts:
    """Results of experiments at which much is to be told."""
    texts: Texts = {}
    lacking = spoilt(folder, "lacking", 8, without("**Epochs", "**Batch size", "- **Path**"))
    texts["missing fields: parse_summary"] = compact(await called(client, TOOLS[0], lacking))
    bad = spoilt(
        folder, "bad", 300, lambda text: re.sub(r"\| (run\d+) \| [^|]+ \| \d+ \|", r"| \1 | No-Such-\1 | x\1 |", text)
    )
    texts["300 bad rows: parse_summary"] = compact(await called(client, TOOLS[0], bad))
    rows = spoilt(folder, "wide", 200, wide)
    for tool in TOOLS:
        texts[f"200 wide rows: {tool}"] = compact(await called(client, tool, rows))
    broken = folder / "of_1000"
    for path in broken.glob("*/finetune.yaml"):
        path.write_text(path.read_text().replace("epochs: 2", "epochs: 3").replace("seed: 14", "seed: '14'"))
    data = await called(client, "validate", broken)
    if data["counts"]["failed"] != max(SUMS):
        raise SystemExit("broken runs passed")
    texts["1000 broken runs: validate"] = compact(data)
    return texts


async def all_texts(folder: Path) -> Texts:
    """Every text that is counted."""
    command = str(Path(sys.executable).parent / "scaffold-torchtune")
    server = StdioServerParameters(command=command, args=["serve", "--root", str(folder)])
    async with Client(server) as client:
        texts = await listed(client)
        texts["SKILL.md"] = (ROOT / "SKILL.md").read_text()
        for name in ("torchtune", "troubleshooting"):
            texts[f"workflows/{name}.md"] = (ROOT / "workflows" / f"{name}.md").read_text()
        for runs in (8, 32, 100, 1_000):
            texts |= await whole(client, folder, runs)
        for runs in (32, 1_000):
            texts |= await changed(client, folder, runs)
        texts |= await worst(client, folder)
    return {name: text.replace(str(folder), HOME) for name, text in texts.items()}


def counted(texts: Texts, modules: Path) -> dict[str, int]:
    """Return the number of tokens of each text."""
    own = modules / ".bin" / "node"
    node = str(own.resolve()) if own.exists() else "node"
    command = [node, str(Path(__file__).parent / "count_tokens.cjs"), str(modules.resolve())]
    done = subprocess.run(command, check=True, input=json.dumps(texts), capture_output=True, text=True)
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def judged(counts: dict[str, int]) -> Iterator[tuple[str, int, int | None]]:
    """Name, tokens and bound of everything that was counted, and of the sums."""
    bounds = {"tool list": TOOL_LIST, "SKILL.md": SKILL}
    for name, count in counts.items():
        yield name, count, bounds.get(name, ONE_RESULT if ": " in name else None)
    for runs in (8, 32, 100, 1_000):
        total = sum(count for name, count in counts.items() if name.startswith(f"{runs} runs: "))
        yield f"{runs} runs: all calls", total, SUMS.get(runs)


def main() -> int:
    """Print the table; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    modules = ROOT / ".package-tools" / "node_modules"
    parser.add_argument("--modules", type=Path, default=modules, help="where gpt-tokenizer is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = counted(anyio.run(all_texts, Path(folder).resolve()), options.modules)
    broken = 0
    for name, count, bound in judged(counts):
        broken += bound is not None and count > bound
        limit = "" if bound is None else f"  at most {bound:,}" + (" BROKEN" if count > bound else "")
        sys.stdout.write(f"{count:>8,}  {name}{limit}\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
