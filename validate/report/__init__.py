"""A report as Markdown, on the terminal and as JSON, with its notes and advice."""
