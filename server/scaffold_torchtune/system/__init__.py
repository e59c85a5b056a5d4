"""Access to files, processes, YAML, JSON, Markdown and templates.

files.py              all access to the disk
layout.py             the names of all files
locking.py            the lock of an experiment
processes.py          programs, their deadlines and their end; streams and signals of this process
supervisor.py         the parent of a program, which ends all processes that it started
serialization.py      YAML, read and written; large JSON files, one value at a time
markdown.py           Markdown as sections, bullets, tables and fences
templating.py         Jinja2; the limits of users' templates
"""
