"""`python -m anabranch_generation`."""

from anabranch_generation.bootstrap import build
from anabranch_generation.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
