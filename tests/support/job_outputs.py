"""The corpus of job outputs, and lines as torchtune and tqdm write them."""

import re
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parents[1] / "data" / "job_outputs"


class CorpusOutput(NamedTuple):
    """An output: the code of its cause or `none`, where its text is from, the state of the job, values to be shown."""

    name: str
    cause: str
    source: str
    state: str
    shows: tuple[str, ...]
    text: bytes


def corpus() -> list[CorpusOutput]:
    """Every output of the corpus; what is known of it stands in comments before its text."""
    return [_read(path) for path in sorted(CORPUS.glob("*.out"))]


def _read(path: Path) -> CorpusOutput:
    data = path.read_bytes()
    head = re.match(rb"(?:# (?:cause|source|state|shows): [^\n]*\n)+", data)
    assert head, path
    known = dict(re.findall(r"# (\w+): ([^\n]*)\n", head[0].decode()))
    shows = tuple(known["shows"].split("; ")) if "shows" in known else ()
    return CorpusOutput(path.stem, known["cause"], known["source"], known.get("state", ""), shows, data[head.end() :])


def bar(epoch: int, step: int, loss: float | str, *, per_epoch: int = 100, seconds: int = 10) -> str:
    """The line of a step as tqdm draws it for torchtune 0.6.1."""
    done = (step - 1) % per_epoch + 1
    clock = f"{seconds // 60:02}:{seconds % 60:02}"
    share = 100 * done // per_epoch
    drawn = f"{share:3}%|{'#' * (share // 10):<10}| {done}/{per_epoch} [{clock}<10:00,  1.25s/it]"
    return f"\r{epoch}|{step}|Loss: {loss}: {drawn}"
