"""Results of tools and commands, and their shortened form for agents.

step_results.py     the result of each step, its verdict in words, and how a reply shortens each list
reply.py            the table of steps, tools and arguments; the size limits of a reply
report_contents.py  the contents of a report; its Markdown text and CSV table (`pipeline/reporting.py` writes them)
report_page.py      the report as an HTML page
"""
