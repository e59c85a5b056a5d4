"""Step 1: read the two documents into one typed `Experiment`, or report everything that is wrong with them.

experiment.py        required fields; both documents as one `Experiment`
markdown_summary.py  experiment_summary.md: sections, models, data, resources
headings.py          its headings, and lines below them that look like settings and are not read
configuration.py     its Configuration: what all runs share
unread.py            lines, notes and sentences elsewhere that say of the runs what they are not
free_text.py         what a note or a sentence says is done, and what it only mentions
runs_table.py        its table of runs: columns and rows
marked_rows.py       rows that are not runs: struck out, cancelled, totals, headings of groups, blank cells
yaml_summary.py      experiment_summary.yaml
yaml_form.py         its keys, its JSON Schema
yaml_source.py       the line of everything in it
local.py             claude.local.md
local_labels.py      the meaning of its labels and headings
local_lines.py       its sections, line by line
template.py          a plain YAML template of setup_finetune.yaml
values.py            the typed value in a text
notations.py         notations of numbers, times, memory and names of models
methods.py           words for LoRA and full fine-tuning, and methods that are refused
compound.py          lines that give several settings: batch and accumulation, GPUs and nodes, W&B
foreign.py           configurations of other trainers in the place of a summary
answers.py           questions to the user, and the answers
advice.py            the line that a document lacks, and its place
markdown_lines.py    that line in a Markdown document
yaml_lines.py        that line in a YAML document
drafts.py            the models that readers fill, before values are typed
reading.py           the drafts and findings that these modules share
"""
