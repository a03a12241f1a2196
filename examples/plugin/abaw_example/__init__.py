"""A plug-in for abaw with one of everything; see pyproject.toml for how abaw finds it."""
