"""`python -m anabranch_embedding`."""

from anabranch_embedding.bootstrap import build
from anabranch_embedding.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
