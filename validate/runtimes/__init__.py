"""One child process per artifact and runtime: a runtime that crashes or hangs costs a row, not the run.

`table.py` lists the runtimes, `client.py` starts a child and talks to it, `worker.py` is what runs there, and
`litert.py`, `ort.py` and `reference.py` know one library each.
"""
