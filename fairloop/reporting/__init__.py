"""Reports as pages, figures and tables: matplotlib and jinja2 (the extra `stats`).

Shared by the metrics service and by the commands that work without the stack, so
that both write the same files.
"""
