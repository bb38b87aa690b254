"""The runner: the process that loads an artifact and answers requests, on this machine or on a device.

It needs Python 3.9, NumPy and one runtime's own package, and nothing else of edgeship: the modules here import each
other by relative names, and `pack.py` makes one file of them, which is what goes to a board or a phone.

    protocol.py     requests and answers: one line of JSON each
    session.py      the loaded model, and what each request does
    examples.py     the arrays that go into a runtime and come out of it
    table.py        the runtimes, one row each
    litert.py       how a runtime opens a file, one module each: it is imported when it is asked for
    onnxruntime.py
    process.py      this process: its memory, how often it was interrupted
    machine.py      what this machine is
    state.py        what slows this machine down right now
    system.py       the files in which Linux says so
    supervisor.py   the modes of a device: a supervised runner, and the keeper of the folder
    pack.py         all of this as one file (on this machine only)
"""
