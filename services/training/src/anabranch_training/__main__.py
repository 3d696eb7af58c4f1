"""`python -m anabranch_training`."""

from anabranch_runtime import serve
from anabranch_training.bootstrap import build
from anabranch_training.settings import Settings

if __name__ == "__main__":
    serve(build, Settings)
