"""Parts that several stages use: Markdown, YAML, templating, numbers, files, processes."""
