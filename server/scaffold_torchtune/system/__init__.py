"""Access to files, processes, YAML, Markdown and templates."""
