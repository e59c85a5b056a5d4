"""The validate stage: the proof that every planned value arrived in finetune.yaml and finetune.slurm.

It knows where values belong from torchtune's facts alone and shares nothing with the code that writes the files:
otherwise both could be wrong in the same way. It is pure; whoever calls it reads the files.
"""
