"""A server whose -wal is emptied right after the COMMIT of a publish, as another program could do:

python -m tests.storage.change_points FILE 5 serve --engine sqlite:FILE
"""

import os
import sys

from app.cli import main
from tests.storage.kill_points import Trap

if __name__ == "__main__":
    Trap("after COMMIT", int(sys.argv[2]), lambda: os.truncate(f"{sys.argv[1]}-wal", 0))
    main(sys.argv[3:])
