import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from holdfast.logger.loop import main

sys.exit(main(sys.argv))
