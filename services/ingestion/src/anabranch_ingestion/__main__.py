"""`python -m anabranch_ingestion`: the service, told what to do by ANABRANCH_INGESTION_* variables."""

from __future__ import annotations

from anabranch_ingestion.bootstrap import build
from anabranch_ingestion.settings import Settings
from anabranch_runtime import serve

if __name__ == "__main__":
    serve(build, Settings)
