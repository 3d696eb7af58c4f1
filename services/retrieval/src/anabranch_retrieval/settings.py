"""What the retrieval service can be told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from anabranch_runtime import ServiceSettings

_ADDRESS = r"^[^\s/]+:\d{1,5}$"


class Settings(ServiceSettings):
    """Read from ANABRANCH_RETRIEVAL_*."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix="ANABRANCH_RETRIEVAL_")

    database: str = Field(default="", description="sqlite:////file or postgresql://user@host/name; empty: in data")
    embedding: str = Field(
        default="127.0.0.1:7002", min_length=1, description="embedding service: host:port or unix:/path"
    )
    embedding_query_timeout: timedelta = Field(
        default=timedelta(seconds=5), gt=timedelta(0), le=timedelta(minutes=1), description="for one query"
    )
    embedding_batch_timeout: timedelta = Field(
        default=timedelta(seconds=60), gt=timedelta(0), le=timedelta(minutes=10), description="for a batch of chunks"
    )
    index: Literal["lancedb", "weaviate"] = Field(default="lancedb", description="embedded LanceDB, or Weaviate")
    lancedb_dir: Path | None = Field(default=None, description="LanceDB's folder; unset: in data")
    weaviate_http: str = Field(default="127.0.0.1:8080", pattern=_ADDRESS, description="Weaviate's REST: host:port")
    weaviate_grpc: str = Field(default="127.0.0.1:50051", pattern=_ADDRESS, description="Weaviate's gRPC: host:port")
    weaviate_api_key: SecretStr | None = Field(default=None, description="API key for Weaviate, where it asks for one")
    weaviate_prefix: str = Field(
        default="Chunks", pattern=r"^[A-Z][A-Za-z0-9]{0,30}$", description="what its collections and aliases begin with"
    )
    weaviate_connect_timeout: timedelta = Field(
        default=timedelta(seconds=5), gt=timedelta(0), le=timedelta(minutes=1), description="for connecting"
    )
    weaviate_search_timeout: timedelta = Field(
        default=timedelta(seconds=5), gt=timedelta(0), le=timedelta(minutes=1), description="for one search"
    )
    weaviate_write_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), le=timedelta(minutes=5), description="for one batch of objects"
    )
    reader_grace: timedelta = Field(
        default=timedelta(seconds=1),
        ge=timedelta(0),
        le=timedelta(minutes=5),
        description="how long replaced chunks stay for searches under way",
    )
    unserved: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="start although the embedding service lacks the model of a corpus: refuse, or allow (to reindex)",
    )
    previous_kept: timedelta = Field(
        default=timedelta(days=7),
        gt=timedelta(0),
        le=timedelta(days=365),
        description="how long the edition before a reindex is kept up to date to go back to",
    )

    artifacts: str = Field(default="", description="artifact store of rerankers: folder or URL; empty: in data")
    public_key: Path | None = Field(
        default=None, description="PEM file that rerankers are verified with; unset: every reranker is refused"
    )
    reranker_timeout: timedelta = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(minutes=1),
        description="how long a search waits for a reranker that is being loaded, before it goes on without",
    )
    reranker_retry: timedelta = Field(
        default=timedelta(seconds=5),
        gt=timedelta(0),
        le=timedelta(minutes=10),
        description="how long a reranker that could not be loaded is not tried again",
    )

    @property
    def database_url(self) -> str:
        """The database, with its default filled in."""
        return self.database or f"sqlite:///{(self.data / 'retrieval.db').absolute()}"

    @property
    def lancedb_folder(self) -> Path:
        """LanceDB's folder, with its default filled in."""
        return self.lancedb_dir or self.data / "lancedb"

    @property
    def artifact_store(self) -> str:
        """The artifact store, with its default filled in."""
        return self.artifacts or str(self.data / "artifacts")

    @property
    def reranker_folder(self) -> Path:
        """Where verified copies of rerankers are kept."""
        return self.data / "rerankers"
