"""Runnable examples, one for each feature: `python -m examples.NAME [URI]`."""
