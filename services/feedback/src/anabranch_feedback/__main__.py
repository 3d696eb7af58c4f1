"""`python -m anabranch_feedback`."""

from __future__ import annotations

import gc

from anabranch_feedback.bootstrap import build
from anabranch_feedback.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    # A batch makes some ten thousand objects, none of them in a cycle. Looking through them again and again, and
    # through all that the imports made, took an eighth of the processor time of a feedback.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    serve(build, Settings)
