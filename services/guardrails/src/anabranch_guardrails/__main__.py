"""`python -m anabranch_guardrails`."""

from anabranch_guardrails.bootstrap import build
from anabranch_guardrails.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
