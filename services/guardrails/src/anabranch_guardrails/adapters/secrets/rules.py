"""How makers write their keys. Every quantifier is bounded, so that no text makes a search slow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_EDGE: Final = r"(?<![A-Za-z0-9_/+=-])"
_STOP: Final = r"(?![A-Za-z0-9_-])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a maker's keys look like; `hints` are texts of which one stands in every text that has such a key."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    score: float = 1.0
    varied: bool = True
    """Whether the part after the hint has to look random."""


def _rule(name: str, hints: tuple[str, ...], pattern: str, *, score: float = 1.0, varied: bool = True) -> Rule:
    return Rule(name=name, hints=hints, pattern=re.compile(pattern), score=score, varied=varied)


def _key(name: str, hint: str, rest: str, *, score: float = 1.0) -> Rule:
    return _rule(name, (hint,), rf"{_EDGE}{re.escape(hint)}{rest}{_STOP}", score=score)


RULES: Final = (
    _rule(
        "AWS access key",
        ("AKIA", "ASIA", "AROA", "AIDA", "ABIA", "ACCA"),
        rf"{_EDGE}(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z2-7]{{16}}{_STOP}",
        varied=False,
    ),
    _rule("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), rf"{_EDGE}gh[pousr]_[A-Za-z0-9]{{30,255}}{_STOP}"),
    _key("GitHub token", "github_pat_", r"[A-Za-z0-9_]{50,255}"),
    _rule(
        "GitLab token",
        ("glpat-", "gldt-", "glrt-", "glptt-"),
        rf"{_EDGE}(?:glpat|gldt|glrt|glptt)-[A-Za-z0-9_-]{{20,64}}{_STOP}",
    ),
    _rule(
        "OpenAI or Anthropic key",
        ("sk-",),
        rf"{_EDGE}sk-(?:proj-|ant-(?:api|admin|sid)\d{{2}}-|svcacct-|admin-|or-v1-|lf-)?[A-Za-z0-9_-]{{20,200}}{_STOP}",
    ),
    _rule(
        "Stripe key",
        ("_live_", "_test_", "whsec_"),
        rf"{_EDGE}(?:(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{{10,247}}|whsec_[A-Za-z0-9+/]{{24,100}}={{0,2}}){_STOP}",
    ),
    _key("Google API key", "AIza", r"[A-Za-z0-9_-]{35}"),
    _key("Google OAuth token", "ya29.", r"[A-Za-z0-9_-]{20,512}"),
    _key("Google OAuth secret", "GOCSPX-", r"[A-Za-z0-9_-]{28}"),
    _rule("Slack token", ("xox",), rf"{_EDGE}xox[abeoprs](?:\.xox[abp])?-[A-Za-z0-9-]{{10,250}}{_STOP}"),
    _key("Slack app token", "xapp-", r"\d-[A-Z0-9]{8,14}-\d{8,14}-[a-f0-9]{60,70}"),
    _rule(
        "Slack webhook",
        ("hooks.slack.com",),
        r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{40,60}",
    ),
    _rule(
        "Discord webhook",
        ("/api/webhooks/",),
        r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[A-Za-z0-9_-]{60,72}",
    ),
    _key("npm token", "npm_", r"[A-Za-z0-9]{36}"),
    _key("PyPI token", "pypi-", r"[A-Za-z0-9_-]{50,300}"),
    _key("Hugging Face token", "hf_", r"[A-Za-z0-9]{30,40}"),
    _key("SendGrid key", "SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}"),
    _rule("Twilio key", ("SK", "AC"), rf"{_EDGE}SK[0-9a-f]{{32}}{_STOP}", score=0.8),
    _rule("Mailgun key", ("key-",), rf"{_EDGE}key-[0-9a-f]{{32}}{_STOP}"),
    _rule("Mailchimp key", ("-us",), rf"{_EDGE}[0-9a-f]{{32}}-us\d{{1,2}}{_STOP}"),
    _rule(
        "Shopify token",
        ("shpat_", "shpca_", "shppa_", "shpss_"),
        rf"{_EDGE}shp(?:at|ca|pa|ss)_[a-fA-F0-9]{{32}}{_STOP}",
    ),
    _rule("DigitalOcean token", ("do",), rf"{_EDGE}do[opr]_v1_[a-f0-9]{{64}}{_STOP}"),
    _key("Databricks token", "dapi", r"[a-f0-9]{32}(?:-\d)?"),
    _key("Doppler token", "dp.pt.", r"[A-Za-z0-9]{40,44}"),
    _key("Linear key", "lin_api_", r"[A-Za-z0-9]{32,48}"),
    _key("Notion token", "secret_", r"[A-Za-z0-9]{43}"),
    _key("Notion token", "ntn_", r"[A-Za-z0-9]{40,50}"),
    _key("Vault token", "hvs.", r"[A-Za-z0-9_-]{24,128}"),
    _key("Pulumi token", "pul-", r"[a-f0-9]{40}"),
    _key("Grafana token", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
    _key("Groq key", "gsk_", r"[A-Za-z0-9]{40,60}"),
    _key("Perplexity key", "pplx-", r"[A-Za-z0-9]{40,60}"),
    _key("Replicate token", "r8_", r"[A-Za-z0-9]{37,40}"),
    _key("xAI key", "xai-", r"[A-Za-z0-9]{60,90}"),
    _key("NVIDIA key", "nvapi-", r"[A-Za-z0-9_-]{40,80}"),
    _key("Anabranch key", "abk_", r"[A-Za-z0-9_-]{20,100}"),
    _key("Docker Hub token", "dckr_pat_", r"[A-Za-z0-9_-]{27,40}"),
    _rule("Telegram bot token", (":AA",), rf"{_EDGE}\d{{8,10}}:AA[A-Za-z0-9_-]{{33}}{_STOP}"),
    _key("Square token", "EAAA", r"[A-Za-z0-9_-]{60}"),
    _key("Age key", "AGE-SECRET-KEY-1", r"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _rule("Azure storage key", ("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{40,100}={0,2}"),
    _rule("Azure shared access", ("sig=",), r"(?<=[?&])sig=[A-Za-z0-9%+/]{30,120}"),
    _rule(
        "private key",
        ("PRIVATE KEY",),
        r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}"
        r"(?:-{1,4}[^-]{1,5000}){0,8}(?:-----END (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
        varied=False,
    ),
    _rule(
        "JSON web token",
        ("eyJ",),
        rf"{_EDGE}eyJ[A-Za-z0-9_-]{{8,4000}}\.eyJ[A-Za-z0-9_-]{{8,8000}}\.[A-Za-z0-9_-]{{0,2000}}",
        varied=False,
    ),
    _rule(
        "connection string with a password",
        ("://",),
        r"(?<![A-Za-z0-9])[a-z][a-z0-9+.-]{1,24}://[^\s:/@'\"<>]{0,128}:(?P<value>[^\s/@'\"<>]{3,256})@[^\s/@'\"<>]{1,255}",
        varied=False,
    ),
    _rule(
        "connection string with a password",
        ("Password=", "password=", "Pwd=", "pwd=", "PWD="),
        r"(?i:server|data source|host|user id|uid|user)=[^;\n]{1,128};[^\n]{0,256}?"
        r"(?i:password|pwd)=(?P<value>[^;\s'\"]{3,128})",
        varied=False,
    ),
    _rule(
        "authorisation header",
        ("earer ", "asic "),
        r"(?i:authorization)[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?i:bearer|basic|token) "
        r"(?P<value>[A-Za-z0-9._~+/=-]{16,4000})",
    ),
)

ASSIGNED: Final = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?P<name>(?i:pass(?:word|wd|phrase|code)?|pwd|secret|api[_-]?key|apikey|access[_-]?key|secret[_-]?key|auth[_-]?token|"
    r"access[_-]?token|refresh[_-]?token|client[_-]?secret|private[_-]?key|token|credentials?|encryption[_-]?key|"
    r"signing[_-]?key|webhook[_-]?secret|bearer))"
    r"(?P<assigns>[\"']?\]?\s{0,4}(?::=|=>|==?|:)\s{0,4}|\s{1,2}(?i:is|was)\s{1,2}:?\s{0,2})"
    r"(?:(?P<quote>[\"'`])(?P<quoted>[^\"'`\n]{4,256})(?P=quote)|(?P<bare>[^\s\"'`,;<>(){}\[\]]{6,256}))"
)
"""A name that speaks of a secret, and what it is set to."""
HINTS: Final = ("pass", "pwd", "secret", "key", "token", "credential", "bearer")
"""Of which one, in small letters, stands in every text that has such an assignment."""
HARMLESS: Final = re.compile(
    r"(?i:^(?:x{3,}|\*{3,}|\.{3,}|-{3,}|_{3,}|<.{0,80}>|\$\{?.{0,80}|%.{0,80}%|\{\{?.{0,80}|your.{0,80}|my[_-]?.{0,40}|"
    r"changeme|change[_-]me|example.{0,80}|placeholder.{0,40}|redacted.{0,40}|dummy.{0,40}|sample.{0,40}|test(?:ing)?|"
    r"password\d{0,4}|secret|token|none|null|nil|true|false|undefined|string|str|int|bytes|required|optional|incorrect|"
    r"wrong|invalid|expired|missing|empty|hidden|encrypted|hashed|env\b.{0,80}|os\.|process\.|getenv|config\b.{0,80}|"
    r"settings\b.{0,80}|self\..{0,80}|this\..{0,80}|args\..{0,80}|request\..{0,80}|the|not|and|was|for|stored|reset|"
    r"used|sent|valid|needed|secure|strong|weak|correct|forgotten|changed|visible|https?://.{0,200})$)"
)
"""Values that are no secrets: places to fill in, names, words."""
