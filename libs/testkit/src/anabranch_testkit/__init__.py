"""Real Kafka, Weaviate and PostgreSQL for tests, started once a run, and the small things tests share.

The fixtures are a pytest plugin (`anabranch_testkit.plugin`), found by itself wherever this package is installed.
"""

from anabranch_local.process import free_port
from anabranch_testkit.polling import poll_until

__all__ = ["free_port", "poll_until"]
