"""The command ``landscape``: one file per command; nothing here is imported by the engine."""
