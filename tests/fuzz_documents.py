"""Mutate documents of the corpus and plan each: the result is a plan or a refusal, quickly and in bounded memory.

`python tests/fuzz_documents.py --count 100000 --seed 1` prints every document with a different result and the seed that
creates it again (`--only SEED`), the slowest document, and the growth of memory. It fails if there is such a document,
if a document takes more than a second, or if memory grows by more than 200 MB.
"""

import argparse
import functools
import multiprocessing
import random
import resource
import sys
import time
import traceback
from dataclasses import dataclass

from scaffold_torchtune.findings import Refused
from support.corpus_cases import CASES, CORPUS, documents_of, plan_of, text_of

MAX_SECONDS = 1.0
MAX_MEGABYTES = 200.0
_JUNK = (
    "\x00", "\u202e", "\u00a0", "\u2028", "\ufeff", "🦙", "é", "１", "|", "||", "\\", "`", "```", "```yaml", "**",
    "*", "_", "#", "---", "- ", ": ", ":", "<!--", "-->", "<b>", "{", "}", "[", "]", "&a", "*a",
    "!!python/object:x", "<<: *a", "'", '"', "${x}", "???", "\t", "\r", "\r\n", "\n", "\n\n", "9" * 400,
    "1e999", "-1e-999", "0x1f", "1_000", "nan", ".inf", "-0", "1" + "0" * 5000, "no", "null", "~", "12:30:00",
    "2026-11-20", "..", "/", "../../etc", "$(id)", "(none)", "<x>", " " * 5000, "(" * 2000, "[" * 2000,
    "a" * 30000, "- " * 300, "> " * 300, "*" * 3000, "_a" * 2000, "| " * 2000, "`" * 2001,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result for one mutated document. `failure` is None for a plan or a refusal."""

    seed: int
    planned: bool
    seconds: float
    failure: str | None


@functools.cache
def _everything() -> tuple[str, ...]:
    """Return the lines of all documents of the corpus, to splice from."""
    texts = [text_of(p.name) or "" for p in sorted(CORPUS.iterdir()) if p.suffix in {".md", ".yaml"}]
    return tuple(line for text in texts for line in text.splitlines())


def _by_line(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            del lines[i]
        case 1:
            lines.insert(j, lines[i])
        case 2:
            lines[i], lines[j] = lines[j], lines[i]
        case 3:
            lines.insert(i, chance.choice(_everything()))
        case 4:
            lines[i] = chance.choice(_everything())
        case _:
            lines[i] = " " * chance.randrange(9) + lines[i].lstrip()
    return "\n".join(lines)


def _by_character(text: str, chance: random.Random) -> str:
    i = chance.randrange(len(text) + 1)
    j = min(len(text), i + chance.choice((1, 1, 2, 5, 30)))
    match chance.randrange(5):
        case 0:
            return text[:i] + text[j:]
        case 1:
            return text[:i] + text[i:j] * chance.choice((2, 3, 50)) + text[j:]
        case 2:
            return text[:i] + text[i:j][::-1] + text[j:]
        case 3:
            return text[:i] + chr(chance.choice((chance.randrange(128), chance.randrange(0xD7FF)))) + text[j:]
        case _:
            return text[:i] + chance.choice(_JUNK) + text[chance.choice((i, j)) :]


def mutated(text: str, chance: random.Random) -> str:
    """Return the text after one to eight mutations."""
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        text = (_by_line if chance.random() < 0.5 else _by_character)(text, chance)
    return text


def document(seed: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the two documents of a seed: one or both of them are mutated."""
    chance = random.Random(seed)  # noqa: S311 - it must be the same each time
    summary, local = documents_of(chance.choice(CASES))
    which = chance.randrange(4)
    if which != 0:
        summary = (summary[0], mutated(summary[1], chance))
    if which in {0, 1}:
        local = (local[0], mutated(local[1], chance))
    return summary, local


def tried(seed: int) -> Outcome:
    """Parse and plan the documents of a seed."""
    summary, local = document(seed)
    start = time.process_time()  # the processor time of this process: other processes do not change it
    planned, failure = False, None
    try:
        planned = bool(plan_of(summary, local).runs)
        failure = None if planned else "a plan without runs"
    except Refused as refused:
        failure = None if refused.problems else "a refusal without problems"
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        failure = traceback.format_exc(limit=-3)
    seconds = time.process_time() - start
    if seconds > MAX_SECONDS:
        failure = failure or f"{seconds:.2f} s"
    return Outcome(seed, planned, seconds, failure)


def megabytes() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _worker(seeds: range) -> tuple[list[Outcome], float, Outcome, int]:
    """Return the failures, the growth of memory, the slowest document, and the number of plans."""
    tried(seeds[0])  # objects that are loaded once are not growth
    before = megabytes()
    failures: list[Outcome] = []
    slowest = Outcome(seeds[0], planned=False, seconds=0.0, failure=None)
    planned = 0
    for seed in seeds:
        outcome = tried(seed)
        failures += [outcome] if outcome.failure else []
        slowest = max(slowest, outcome, key=lambda one: one.seconds)
        planned += outcome.planned
    return failures, megabytes() - before, slowest, planned


def fuzz(count: int, seed: int, workers: int = 2) -> tuple[list[Outcome], str]:
    """Try `count` documents; return the failures, and the figures in one line."""
    start = time.perf_counter()
    parts = [range(seed + i, seed + count, workers) for i in range(min(workers, count))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        results = pool.map(_worker, parts, chunksize=1)
    failures = [failure for found, _, _, _ in results for failure in found]
    slowest = max((one for _, _, one, _ in results), key=lambda one: one.seconds)
    growth = max(grown for _, grown, _, _ in results)
    if growth > MAX_MEGABYTES:
        failures.append(Outcome(seed, planned=False, seconds=0.0, failure=f"memory grew by {growth:.0f} MB"))
    planned = sum(number for _, _, _, number in results)
    figures = (
        f"{count} documents from seed {seed}: {planned} planned, {count - planned - len(failures)} refused,"
        f" {len(failures)} failures; slowest {slowest.seconds:.3f} s (seed {slowest.seed}), memory grew by at most"
        f" {growth:.1f} MB, {time.perf_counter() - start:.0f} s in all"
    )
    return failures, figures


def main() -> int:
    """Run the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", type=int, help="try the document of this seed alone, and print it")
    given = options.parse_args()
    if given.only is not None:
        for name, text in document(given.only):
            sys.stdout.write(f"=== {name}\n{text.encode('unicode_escape').decode()}\n")
        outcome = tried(given.only)
        sys.stdout.write(f"{outcome}\n{outcome.failure or ''}\n")
        return int(outcome.failure is not None)
    failures, figures = fuzz(given.count, given.seed)
    for failure in failures[:20]:
        sys.stdout.write(f"seed {failure.seed}: {failure.failure}\n")
    sys.stdout.write(figures + "\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
