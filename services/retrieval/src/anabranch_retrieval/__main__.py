"""`python -m anabranch_retrieval`."""

from anabranch_retrieval.bootstrap import build
from anabranch_retrieval.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
