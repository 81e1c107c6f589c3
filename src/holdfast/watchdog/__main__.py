import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from holdfast.watchdog.watch import main

sys.exit(main(sys.argv))
