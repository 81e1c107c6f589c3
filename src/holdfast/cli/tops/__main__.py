import sys

sys.path.insert(0, __file__.rsplit("/", 4)[0])

from holdfast.cli.tops.process import main

sys.exit(main(sys.argv))
