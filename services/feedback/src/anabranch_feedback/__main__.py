"""`python -m anabranch_feedback`."""

from anabranch_feedback.bootstrap import build
from anabranch_feedback.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
