"""Speed beside peers and beside the machine's limit; see `__main__.py`."""
