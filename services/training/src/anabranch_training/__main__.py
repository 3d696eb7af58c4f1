"""`python -m anabranch_training`: the service; with `run FOLDER`: one run, as the service starts it."""

import sys
from pathlib import Path

_RUN = 3

if __name__ == "__main__":
    if len(sys.argv) == _RUN and sys.argv[1] == "run":
        from anabranch_training.adapters.workshop.child import main

        sys.exit(main(Path(sys.argv[2])))
    # A run needs none of this, and it takes most of a second.
    from anabranch_runtime import serve
    from anabranch_training.bootstrap import build
    from anabranch_training.settings import Settings

    serve(build, Settings)
