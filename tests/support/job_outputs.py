"""The corpus of job outputs, and lines as torchtune and tqdm write them."""

import random
import re
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parents[1] / "data" / "job_outputs"


class CorpusOutput(NamedTuple):
    """An output: the code of its cause or `none`, the source of its text, the state of the job, values to be shown."""

    name: str
    cause: str
    source: str
    state: str
    shows: tuple[str, ...]
    text: bytes


def corpus() -> list[CorpusOutput]:
    """Return every output of the corpus; comments before its text describe it."""
    return [_read(path) for path in sorted(CORPUS.glob("*.out"))]


def _read(path: Path) -> CorpusOutput:
    data = path.read_bytes()
    head = re.match(rb"(?:# (?:cause|source|state|shows): [^\n]*\n)+", data)
    assert head, path
    known = dict(re.findall(r"# (\w+): ([^\n]*)\n", head[0].decode()))
    shows = tuple(known["shows"].split("; ")) if "shows" in known else ()
    return CorpusOutput(path.stem, known["cause"], known["source"], known.get("state", ""), shows, data[head.end() :])


def bar(epoch: int, step: int, loss: float | str, *, per_epoch: int = 100, seconds: int = 10) -> str:
    """Return the line of a step as tqdm prints it for torchtune 0.6.1."""
    done = (step - 1) % per_epoch + 1
    clock = f"{seconds // 60:02}:{seconds % 60:02}"
    share = 100 * done // per_epoch
    drawn = f"{share:3}%|{'#' * (share // 10):<10}| {done}/{per_epoch} [{clock}<10:00,  1.25s/it]"
    return f"\r{epoch}|{step}|Loss: {loss}: {drawn}"


_PIECES = (
    b"\r", b"\n", b"\x00", b"\xff\xfe", b"\x1b[A", b"\x1b[31m", "\u202e".encode(),
    b"Traceback (most recent call last):\n",
    b'  File "x", line 1, in y\n', b"1|1|Loss: nan: ", b"999999999|999999999999|Loss: 1e999: 100%|",
    b"|" * 300, b"[" * 300,
    b"9" * 400, b"a" * 70_000, b"\n" * 5_000, b"x\n" * 5_000,
    b"slurmstepd: error: *** JOB 1 ON ", b" CANCELLED AT 2026-1",
    b"DUE TO TIME LIMIT ***\n", b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate ", b"[rank0]: " * 200,
    b"-1|-1|Loss: -1: ", b"0|0|Loss: 0: 0%|| 0/0 [00:00<00:00, 1it/s]", b"1|1|Loss: 1: 1%|| 1/0 [99:99:99:99<?, ?it/s]",
    b"Running x with resolved config:\n", b"Checkpoint saved in 1 seconds.\n", b"{again} {0} %s {asked.run}\n",
)  # fmt: skip


def hostile_output(texts: list[bytes], choose: random.Random) -> bytes:
    """Return an output made of others, with lines repeated, cut or shuffled, and bytes changed."""
    data = bytearray(choose.choice(texts))
    for _ in range(choose.randint(1, 6)):
        act, at = choose.random(), choose.randrange(len(data) + 1)
        if act < 0.4:
            data[at:at] = choose.choice(_PIECES)
        elif act < 0.6:
            other = choose.choice(texts)
            first = choose.randrange(len(other) + 1)
            data[at:at] = other[first : first + choose.randint(0, 3_000)]
        elif act < 0.75:
            del data[at : at + choose.randint(0, 3_000)]
        elif act < 0.9:
            lines = bytes(data).split(b"\n")
            choose.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        else:
            for _ in range(choose.randint(1, 20)):
                if data:
                    data[choose.randrange(len(data))] = choose.randrange(256)
    return bytes(data)
