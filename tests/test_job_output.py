"""Test the progress, losses and causes that are read from the output of jobs."""

import re
from dataclasses import replace

import pytest

from scaffold_torchtune import job_causes
from scaffold_torchtune.finding_codes import CODES
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.job_causes import CAUSES, JobEnd, Requested, Symptom, cause, not_well, symptom, unexplained
from scaffold_torchtune.job_output import JobOutput, read_output
from support.job_outputs import CorpusOutput, bar, corpus
from support.wording import absent

CORPUS = corpus()
START = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nepochs: 2\n\n"
ASKED = Requested(
    experiment="/scratch/lab/ada/my sweep", run="rank8", output="rank8/slurm-4711.out", batch_size=8, accumulation=2,
    gpus=2, max_seq_len=2048, checkpointing=False, lr=1e-3, epochs=2, memory="24G", time=3540, environment="cruijff",
    model="/models/Llama", data="/data/words.json", output_dir="/scratch/out/rank8",
    places={"batch_size": "experiment_summary.md:22"},
)  # fmt: skip
TRACEBACK = 'Traceback (most recent call last):\n  File "/x/train.py", line 3, in train\n    step()\n'
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB"


def output_of(text: str | bytes) -> JobOutput:
    return read_output([(0, text if isinstance(text, bytes) else text.encode())])


def found_in(text: str | bytes, job: JobEnd | None = None, asked: Requested = ASKED) -> Finding | None:
    """Return the finding for a failed job; None if nothing is known."""
    job, output = job or JobEnd(), output_of(text)
    lost = not_well(job, asked, output, None)
    seen = symptom(output, job.state)
    if seen is None or (lost and seen.code in job_causes.ENDED_BY_SLURM):
        return lost
    return cause(seen, job, asked, output)


# The corpus.


@pytest.mark.parametrize("one", CORPUS, ids=lambda one: one.name)
def test_each_output_of_the_corpus_has_its_cause(one: CorpusOutput) -> None:
    found = found_in(one.text, JobEnd(state=one.state))
    assert (found.code if found else "none") == one.cause
    if found:
        assert absent(found.message, *one.shows) == []
        assert found.fix


def test_the_corpus_has_every_cause_several_times_and_outputs_without_one() -> None:
    by_cause = {code: [one for one in CORPUS if one.cause == code] for code in {one.cause for one in CORPUS}}
    assert len(CORPUS) >= 60
    assert by_cause.keys() >= job_causes.CAUSES
    assert all(len(several) >= 2 for code, several in by_cause.items() if code != "no-steps")
    assert len(by_cause["none"]) >= 15
    assert all(one.source for one in CORPUS)


def test_every_sign_names_its_source_and_occurs_in_the_corpus() -> None:
    signs = (*job_causes.RAISED, *job_causes.PRINTED, *job_causes.ENDED, *job_causes.CONNECTED, *job_causes.WATCHED)
    assert all(sign.source and sign.code in CODES for sign in signs)
    lines = [line for one in CORPUS for line in re.split(r"[\r\n]", one.text.decode())]
    bare = [re.sub(r"^\[rank\d\]: ", "", line) for line in lines]
    bare += [line.partition("s/it]")[2] for line in bare if "s/it]" in line]
    unseen = [sign for sign in signs if not any(re.match(sign.pattern, line) for line in bare)]
    assert {sign.pattern for sign in unseen} == set()


# Progress.


def test_the_last_step_its_epoch_and_loss_are_read_from_bars_with_carriage_returns() -> None:
    text = START + "".join(bar(1, step, 2 - step / 100) for step in range(1, 101)) + "Starting checkpoint save...\n"
    text += "Checkpoint saved in 4.25 seconds.\n\n  0%|          | 0/100 [00:00<?, ?it/s]\x1b[A" + bar(1, 100, 1.0)
    text += "\n\n" + bar(2, 101, 0.5) + "\x1b[A"
    output = output_of(text)
    assert output.first is not None
    assert output.last is not None
    assert (output.first.number, output.last[:3]) == (1, (2, 101, 0.5))
    assert (output.last.per_epoch, output.saved, output.nan_from) == (100, 1, None)
    assert len(output.losses) == 60
    assert [(output.losses[0].step, output.losses[-1].step)] == [(1, 101)]
    steps = [point.step for point in output.losses]
    assert steps == sorted(set(steps))
    assert all(point.loss == pytest.approx(2 - point.step / 100) for point in output.losses[:-1])


def test_an_old_line_redrawn_by_tqdm_is_not_progress() -> None:
    output = output_of(START + bar(1, 100, 1.5) + bar(2, 101, 1.25) + "\x1b[A" + bar(1, 100, 1.5))
    assert output.last is not None
    assert output.last[:3] == (2, 101, 1.25)


def test_a_restarted_job_in_the_same_output_has_its_latest_progress() -> None:
    output = output_of(START + bar(1, 1, 3.0) + bar(1, 50, 1.0) + "\n" + START + bar(1, 1, 3.0) + bar(1, 2, 2.5))
    assert output.first is not None
    assert output.last is not None
    assert (output.first.number, output.last.number) == (1, 2)
    assert [point.step for point in output.losses] == [1, 2]


def test_an_incomplete_last_line_gives_no_wrong_step() -> None:
    whole = (START + bar(1, 1, 2.5) + bar(1, 2, 2.25) + bar(1, 3, 2.125)).encode()
    for cut in range(len(START), len(whole)):
        last = output_of(whole[:cut]).last
        assert last is None or last.number in {1, 2, 3}
    assert output_of(whole).last is not None


def test_the_first_nan_loss_is_found() -> None:
    output = output_of(START + bar(1, 1, 2.5) + bar(1, 2, "nan") + bar(1, 3, "inf"))
    assert [point.loss for point in output.losses] == [2.5, None, None]
    assert output.nan_from == 2
    assert output_of(START + bar(1, 1, "nan") + bar(1, 2, 2.5)).nan_from is None


def test_parts_of_a_very_large_output_suffice() -> None:
    bars = [bar(1, step, 3 - step / 1000, per_epoch=1000).encode() for step in range(1, 901)]
    text = START.encode() + b"".join(bars)
    size = len(text)
    parts = [
        (0, text[:1000]),
        *((at, text[at : at + 400]) for at in range(5000, 60_000, 3000)),
        (size - 900, text[-900:]),
    ]
    output = read_output(parts)
    assert output.first is not None
    assert output.last is not None
    assert (output.first.number, output.last.number) == (1, 900)
    assert len(output.losses) > 20
    assert all(point.loss == pytest.approx(3 - point.step / 1000) for point in output.losses)


# Causes.


def test_an_error_before_further_training_is_not_a_cause() -> None:
    assert found_in(START + bar(1, 1, 2) + TRACEBACK + OOM + "\n" + bar(1, 2, 1.5)) is None
    assert found_in(START + bar(1, 1, 2) + TRACEBACK + OOM + "\n" + bar(1, 1, 2)) is not None


def test_the_fix_for_gpu_memory_is_a_smaller_batch_with_accumulation() -> None:
    found = found_in(START + bar(1, 1, 2) + TRACEBACK + OOM + "\n")
    assert found is not None
    assert (found.code, found.file) == ("job-gpu-memory", "rank8/slurm-4711.out")
    assert absent(found.message, 8, 2048, "79.15 GiB") == []
    assert absent(found.fix, "experiment_summary.md:22", 4, 32, "--started replace=rank8") == []
    assert "**Activation checkpointing:**" in found.fix


@pytest.mark.parametrize(("batch", "accumulation", "smaller", "more"), [(6, 1, 3, 2), (9, 1, 3, 3), (7, 2, 1, 14)])
def test_the_smaller_batch_divides_the_old_one(batch: int, accumulation: int, smaller: int, more: int) -> None:
    asked = Requested("/e", "run", batch_size=batch, accumulation=accumulation)
    found = found_in(TRACEBACK + OOM, asked=asked)
    assert found is not None
    assert absent(found.fix, smaller, more, batch * accumulation) == []


def test_without_a_smaller_batch_or_checkpointing_other_fixes_are_named() -> None:
    asked = Requested("/e", "run", batch_size=1, checkpointing=True, max_seq_len=8192)
    found = found_in(TRACEBACK + OOM, asked=asked)
    assert found is not None
    assert absent(found.fix, 8192, "GPUs") == []
    assert "**" not in found.fix


def test_the_fix_for_node_memory_is_twice_as_much() -> None:
    found = found_in("slurmstepd: error: Detected 1 oom_kill event in StepId=4711.batch. Some\n")
    assert found is not None
    assert absent(found.message, "24G") == []
    assert "**Memory:** 48G" in found.fix


TIMED_OUT = "slurmstepd: error: *** JOB 4711 ON n CANCELLED AT 2026-11-27T04:11:12 DUE TO TIME LIMIT ***\n"


def test_the_time_limit_is_extended_by_the_observed_rate() -> None:
    steps = "".join(bar(1, step, 1.5, seconds=60 * step) for step in range(1, 51))
    found = found_in(START + steps + TIMED_OUT, JobEnd(state="TIMEOUT", elapsed=3600, limit=3600))
    assert found is not None  # 10 minutes before the first step, 60 s a step, 200 steps
    assert absent(found.message, "1:00:00", 50, 200, "60.0", "3:30:00") == []
    assert "**Time limit:** 4:00:00" in found.fix


def test_a_resuming_run_only_needs_to_be_submitted_again() -> None:
    steps = (
        "".join(bar(1, step, 1.5) for step in range(1, 101)) + "\nCheckpoint saved in 4.25 seconds.\n" + bar(2, 101, 1)
    )
    asked = Requested("/e", "rank8", epochs=3, resumes=True)
    found = found_in(START + steps + TIMED_OUT, asked=asked)
    assert found is not None
    assert found.fix.endswith(": `scaffold-torchtune submit /e --failed --only rank8`")


def test_an_unknown_failure_shows_state_status_and_last_lines() -> None:
    job = JobEnd(state="FAILED", exit_code="3:0")
    output = output_of(START + bar(1, 1, 2) + "\none\ntwo\n\n^^^^\nthree\nfour\n")
    assert symptom(output, job.state) is None
    found = unexplained(job, ASKED, output)
    assert absent(found.message, "FAILED", 3, "two", "three", "four") == []
    assert "one" not in found.message.split()
    assert "'/scratch/lab/ada/my sweep'" in found.fix


def test_missing_epochs_of_a_completed_job_are_reported() -> None:
    job = JobEnd(state="COMPLETED")
    found = not_well(job, ASKED, output_of("tune failed\n"), 1)
    assert found is not None
    assert (found.code, found.expected, found.actual) == ("epochs-missing", 2, 1)
    assert not_well(job, ASKED, output_of(START), 2) is None
    assert not_well(JobEnd(), ASKED, output_of(START), 0) is None


def test_lines_of_an_output_cannot_forge_printed_lines() -> None:
    found = found_in(TRACEBACK + "ModuleNotFoundError: No \x07\u202e module\x00 " + "x" * 5000)
    assert found is not None
    assert found.message.isprintable()
    assert len(found.message) < 400


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_no_fix_for_a_yaml_summary_has_a_line_of_markdown(code: str) -> None:
    asked = replace(ASKED, yaml=True)
    fix = cause(Symptom(code), JobEnd(), asked, None).fix
    assert re.search(r"- \*\*|Configuration", fix) is None
    line = {"job-wandb": "`wandb_mode: offline` to `controls`", "job-node-memory": "`mem: "}
    assert absent(fix, line.get(code, "")) == []


def test_fixes_for_a_markdown_summary_have_its_lines() -> None:
    found = cause(Symptom("job-wandb"), JobEnd(), ASKED, None)
    assert absent(found.fix, "`- **W&B mode:** offline` to Configuration") == []
