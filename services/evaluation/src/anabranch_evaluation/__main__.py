"""`python -m anabranch_evaluation`."""

from anabranch_evaluation.bootstrap import build
from anabranch_evaluation.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
