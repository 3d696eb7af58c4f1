"""`python -m anabranch_registry`."""

from anabranch_registry.bootstrap import build
from anabranch_registry.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
