"""Words for who writes text: an endpoint, a model that lies at hand, or rules."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from graftwork.spec.base import EXECUTION, ModelRef, Strict
from graftwork.units import Share


class Prices(Strict):
    """What an endpoint costs."""

    input: float = Field(ge=0)
    """Price of a million tokens that it reads."""
    output: float = Field(ge=0)
    """Price of a million tokens that it writes."""
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    """Currency of both."""


class Sampled(Strict):
    """What all language models share that write."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    """Randomness of the writing; 0 takes the likeliest token."""
    max_tokens: int = Field(default=1024, ge=1, le=131_072)
    """Tokens of an answer at most; one that is cut there is not used."""
    version: str = ""
    """A mark of yours for the weights behind the name; change it to have all written again."""


class Endpoint(Sampled):
    """A server that speaks OpenAI's protocol of chat completions, such as vLLM."""

    name: Literal["endpoint"]
    model: str = Field(min_length=1)
    """The model's name there."""
    url: Annotated[str, EXECUTION]
    """The server's address up to the version, for example http://vllm:8000/v1."""
    api_key_env: Annotated[str | None, EXECUTION, Field(pattern="^[A-Z][A-Z0-9_]*$")] = None
    """Environment variable that holds the key, for example `OPENAI_API_KEY`; on a cluster the
    pool's `env_secrets` fill it. The key itself never stands in a spec."""
    concurrency: Annotated[int, EXECUTION, Field(ge=1, le=1024)] = 16
    """Requests under way at once."""
    timeout_seconds: Annotated[float, EXECUTION, Field(gt=0, le=3600)] = 120.0
    """A request that takes longer has stalled, and is made again."""
    retries: Annotated[int, EXECUTION, Field(ge=0, le=20)] = 5
    """How often a request is made again that failed, stalled or brought nonsense."""
    retry_seconds: Annotated[float, EXECUTION, Field(ge=0, le=60)] = 1.0
    """Wait before the first of these; each next wait is twice as long, a minute at most."""
    prices: Annotated[Prices | None, EXECUTION] = None
    """Prices, for the cost in the plan: `{input: 0.15, output: 0.6}` for a million tokens each."""

    @model_validator(mode="after")
    def _address(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"url {self.url!r} is no address of a server; write for example http://vllm:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "url holds a name, a key or a query, which records would show; "
                "name the variable that holds the key in api_key_env"
            )
        return self


class LocalModel(Sampled):
    """A model of this workflow, or one in a folder, that samples in the stage's own process.

    One answer after the other: for many, let a server write (`endpoint`).
    """

    revision: ClassVar[int] = 2

    name: Literal["model"]
    from_: ModelRef | None = Field(default=None, alias="from")
    """The stage that makes the model. Give this or `folder`."""
    folder: str | None = None
    """A folder with a model and its tokenizer in Hugging Face's format. Give this or `from`."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.from_ is None) == (self.folder is None):
            raise ValueError(
                "a model that writes is another stage's or lies in a folder; "
                "give exactly one of 'from' and 'folder'"
            )
        return self


class Rules(Strict):
    """Rules of ours in place of a language model: the same text every time, on any machine.

    For tests, and to try a workflow before it costs anything.
    """

    name: Literal["rules"]


class Classifier(Strict):
    """A model of this workflow that was tuned by a prompt: it names the likeliest label."""

    name: Literal["classifier"]
    from_: ModelRef = Field(alias="from")
    """The stage that tunes it, by `prompt_tuning`."""


Writer = Annotated[Endpoint | LocalModel | Rules | Classifier, Field(discriminator="name")]
Limit = Annotated[Share, EXECUTION]
