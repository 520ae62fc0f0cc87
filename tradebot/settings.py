"""Settings of the whole project, from the environment (see .env.example), with safe defaults.

Embedded runs keep their generated keys in ``DATA_DIR/secrets.env``, written by ``manage.py serve`` on its first start.
Outside debug mode a missing or default SECRET_KEY, or no ENCRYPTION_KEYS, refuses to start.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import environ
from django.core.exceptions import ImproperlyConfigured

from tradebot.runtime.environment import BACKTEST_PROCESSES_DEFAULT, valkey_socket

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
environ.Env.read_env(DATA_DIR / "secrets.env")

TESTING = "pytest" in sys.modules
DEBUG = env.bool("DEBUG", default=False)
DEFAULT_SECRET_KEY = "insecure-only-for-debug-and-tests"  # noqa: S105 (refused outside debug)
SECRET_KEY = env.str("SECRET_KEY", default=DEFAULT_SECRET_KEY)
ENCRYPTION_KEYS: list[str] = env.list("ENCRYPTION_KEYS", default=[])
# Commands that must run before there are secrets: the set-up itself, and checks that touch no data.
_SECRETLESS = {"serve", "collectstatic", "makemigrations", "help", "check", "spectacular", "assets"}
_needs_secrets = not (DEBUG or TESTING or (len(sys.argv) > 1 and sys.argv[1] in _SECRETLESS))
if _needs_secrets and SECRET_KEY == DEFAULT_SECRET_KEY:
    raise ImproperlyConfigured(
        "Set SECRET_KEY: outside debug mode there is no default. `manage.py serve` makes one for you."
    )
if _needs_secrets and not ENCRYPTION_KEYS:
    raise ImproperlyConfigured(
        "Set ENCRYPTION_KEYS (base64, 32 bytes each, newest first). `manage.py serve` makes one for you."
    )
if not ENCRYPTION_KEYS and (DEBUG or TESTING):
    ENCRYPTION_KEYS = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
BEHIND_TLS = env.bool("BEHIND_TLS", default=False)

INSTALLED_APPS = [
    "tradebot.core",
    "accounts",
    "notifications",
    "marketdata",
    "positions",
    "bots",
    "tradebot",
    "tradebot.admin_config.TradebotAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "django_structlog",
]

MIDDLEWARE = [
    "accounts.middleware.ScopeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.BindUserMiddleware",
    "tradebot.middleware.TimeZoneMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
]

ROOT_URLCONF = "tradebot.urls"
ASGI_APPLICATION = "tradebot.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "tradebot.context.shell",
            ],
        },
    }
]

# Database -----------------------------------------------------------------------------------------------------------
_default_database = f"sqlite:///{DATA_DIR / 'tradebot.sqlite3'}"
_database = env.db_url(
    "TEST_DATABASE_URL" if TESTING and env.str("TEST_DATABASE_URL", default="") else "DATABASE_URL",
    default=_default_database,
)
if "sqlite3" in _database["ENGINE"]:
    # Measured with four writers: default options fail two transactions of five as "database is locked", these none.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000;",
    }
    # A file, not memory: tests with threads and processes meet the same locks as in production.
    _run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    _database["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"tradebot-test-{_run}.sqlite3")}
else:
    _database["ENGINE"] = "tradebot.core.postgres"  # tells the database who acts
    # Under ASGI a request may run in any thread, so connections kept per thread would pile up: a pool per process
    # instead. It has room for a worker's threads, or for the requests and sockets that one web process works on.
    _database["CONN_MAX_AGE"] = 0
    _database["CONN_HEALTH_CHECKS"] = True
    if not TESTING:
        _database["OPTIONS"] = {
            **_database.get("OPTIONS", {}),
            "pool": {"min_size": 1, "max_size": max(10, env.int("WORKER_THREADS", default=4) + 4)},
        }
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Broker, cache, sockets ---------------------------------------------------------------------------------------------
REDIS_URL = env.str("REDIS_URL", default="")
_embedded_redis = f"unix://{quote(str(valkey_socket(DATA_DIR)))}"
REDIS = REDIS_URL or _embedded_redis
# The channel layer waits up to 5 s in one read, and redis-py gives up on a read after 5 s unless told otherwise.
CHANNEL_HOST = {"address": REDIS, "socket_timeout": 20, "socket_connect_timeout": 5}
# Counters of requests, circuit breakers and prices are shared by all processes through this one. All of it can be done
# without for a while, so nobody waits long for it; see tradebot.core.cache.
SHARED_CACHE = {
    "BACKEND": "tradebot.core.cache.SharedCache",
    "LOCATION": REDIS,
    "KEY_PREFIX": "tradebot",
    "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
}
if TESTING and not env.str("REDIS_URL", default=""):
    CACHES: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS: dict[str, Any] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
else:
    CACHES = {"default": SHARED_CACHE}
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [CHANNEL_HOST], "capacity": 1000, "expiry": 30, "prefix": "tradebot"},
        }
    }
CELERY_BROKER_URL = REDIS if REDIS.startswith("redis") else REDIS.replace("unix://", "redis+socket://", 1)
# A broker that hangs keeps nobody waiting for long: what a page hands over is a row that a loop finds as well. A worker
# waits one second in each read.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 600,
    "global_keyprefix": "tradebot:",
    "socket_connect_timeout": 2,
    "socket_timeout": 3,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CONCURRENCY = env.int("WORKER_THREADS", default=4)
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ALWAYS_EAGER = TESTING
CELERY_TASK_EAGER_PROPAGATES = TESTING
CELERY_TIMEZONE = "UTC"

# Backtests ----------------------------------------------------------------------------------------------------------
BACKTEST_PROCESSES = env.int("BACKTEST_PROCESSES", default=BACKTEST_PROCESSES_DEFAULT)  # of one `serve`; 0: none
BACKTEST_MAX_CANDLES = env.int("BACKTEST_MAX_CANDLES", default=20_000_000)  # looks × pairs of one backtest
SWEEP_MAX_CANDLES = env.int("SWEEP_MAX_CANDLES", default=2_000_000_000)  # looks × pairs × points of one sweep

# People -------------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = (
    ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if TESTING
    else ["django.contrib.auth.hashers.ScryptPasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
)
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email",)},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env.str("EMAIL_VERIFICATION", default="optional")
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_RATE_LIMITS = {"login_failed": "10/5m/ip,5/5m/key", "signup": "20/h/ip", "login": "60/m/ip"}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_TOTP_ISSUER = "Tradebot"
USERSESSIONS_TRACK_ACTIVITY = True
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="tradebot@localhost")

# Pages --------------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "tradebot.core.storage.HashedFiles"
    },
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True  # half the files, half the time of a first start
WHITENOISE_USE_FINDERS = DEBUG or TESTING
WHITENOISE_AUTOREFRESH = DEBUG or TESTING

# Security -----------------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    },
}
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SESSION_ENGINE = "django.contrib.sessions.backends.db"  # the cache may be away, and must not outlive a sign-out
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds())
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SILENCED_SYSTEM_CHECKS = [
    "security.W008",
    "security.W004",
    "security.W012",
    "security.W016",
    "security.W021",
    "security.W005",
]

# API ----------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ScopedSessionAuthentication",
        "accounts.authentication.ScopedTokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": [
        "tradebot.core.parsers.JSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_PAGINATION_CLASS": "tradebot.core.api.Pagination",
    "DEFAULT_SCHEMA_CLASS": "tradebot.core.once_api.OnceSchema",
    "EXCEPTION_HANDLER": "tradebot.core.api.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": [
        "tradebot.core.limits.PersonThrottle",
        "tradebot.core.limits.StrangerThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {"user": env.str("API_RATE", default="600/min"), "anon": "30/min"},
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tradebot API",
    "DESCRIPTION": "Everything the pages do. Amounts are strings; errors are {code, detail, field}. A POST with an "
    "Idempotency-Key is carried out once and may be repeated.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",  # whose schemas are JSON schemas, as those of the strategies' settings are
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "PositionStatusEnum": "positions.models.POSITION_STATUSES",
        "PanicStatusEnum": "bots.panic.models.PanicRun.Status",
        "JobStatusEnum": "bots.backtesting.models.JobStatus",
        "SideEnum": "accounts.models.paper.SIDES",
        "SignalKindEnum": "bots.signals.models.KINDS",
    },
}

# Markets ------------------------------------------------------------------------------------------------------------
MARKET = env.str("MARKET", default="auto")  # auto, coinbase or simulated: which market new paper accounts get
COINBASE_URL = env.str("COINBASE_URL", default="https://api.coinbase.com")
BINANCE_URL = env.str("BINANCE_URL", default="https://api.binance.com")
KRAKEN_URL = env.str("KRAKEN_URL", default="https://api.kraken.com")
BYBIT_URL = env.str("BYBIT_URL", default="https://api.bybit.com")
OKX_URL = env.str("OKX_URL", default="https://www.okx.com")
VENUE_TIMEOUT_SECONDS = env.float("VENUE_TIMEOUT_SECONDS", default=10.0)  # how long an answer may take
SIMULATED_SEED = env.int("SIMULATED_SEED", default=7)
PRICE_MAX_AGE_SECONDS = env.int("PRICE_MAX_AGE_SECONDS", default=60)
BALANCE_MAX_AGE_SECONDS = env.int("BALANCE_MAX_AGE_SECONDS", default=120)  # older: what an exchange holds is not known
PAPER_START: dict[str, Decimal] = {"BTC": Decimal(1), "ETH": Decimal(10), "USD": Decimal(100_000)}

# Runtime ------------------------------------------------------------------------------------------------------------
PORT = env.int("PORT", default=8000)
BIND = env.str("BIND", default="127.0.0.1")
DEMO = env.bool("DEMO", default=True)  # `serve` makes a demo user on an empty database
METRICS = env.bool("METRICS", default=False)  # serve the process's counters at /metrics, to everybody
LOG_FORMAT = env.str("LOG_FORMAT", default="console")  # console or json
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")

from tradebot.core.logs import logging_config  # noqa: E402 (needs no settings; kept at the end with what it configures)

LOGGING = logging_config(LOG_FORMAT, LOG_LEVEL)
