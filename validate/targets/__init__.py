"""Where artifacts run: this machine, a board over ssh, a phone over adb, an emulated Arm processor, a browser.

    target.py    what every target is, and this machine as the first of them
    table.py     "ssh://pi@board" -> the target
    ssh.py adb.py arm64.py browser.py    one kind each
"""
