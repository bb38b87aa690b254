"""Where artifacts run: this machine, a board over ssh, a phone over adb, an emulated processor, a browser.

    target.py    what every target is, and this machine as the first of them
    table.py     "ssh://pi@board" -> the target
    ssh.py adb.py arm64.py x86.py browser.py    one kind each; emulator.py: what arm64 and x86 share
"""
