"""The validate stage: the proof that every planned value arrived in finetune.yaml and finetune.slurm.

It knows where values belong from torchtune's facts alone and shares nothing with the code that writes the files:
otherwise both could be wrong in the same way. It is pure; whoever calls it reads the files.

    runs.py          all checks of one run, and the verdict
    run_files.py     the three files of a run, parsed once
    arrivals.py      the place of each setting in finetune.yaml
    finetune.py      values of finetune.yaml against the plan
    components.py    components and checkpoint files that it names
    slurm_script.py  reading finetune.slurm
    directives.py    its #SBATCH lines against the plan
    commands.py      its commands against the plan
    report.py        comparison of typed values
"""
