"""People and the API tokens of their programs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models

from tradebot.core import clock
from tradebot.core.scoping import OwnedModel

__all__ = ["ApiToken", "User", "UserManager"]


class UserManager(BaseUserManager["User"]):
    """Creates users by e-mail address; addresses are compared without regard to case."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        if not email:
            raise ValueError("a user has an e-mail address")
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person, known by e-mail address."""

    class Theme(models.TextChoices):
        AUTO = "auto", "as my device"
        LIGHT = "light", "light"
        DARK = "dark", "dark"

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    timezone = models.CharField(max_length=64, default="UTC")
    theme = models.CharField(max_length=5, choices=Theme.choices, default=Theme.AUTO)

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.email

    def holds_token(self, digest: str) -> bool:
        """Whether this is the digest of an API token of theirs that programs may use now."""
        from accounts.tokens import find

        token = find(digest)
        return token is not None and token.user_id == self.pk


class ApiToken(OwnedModel):
    """What a person's programs sign in with. The token itself is not kept, only its digest; see ``accounts.tokens``."""

    account_path = None
    owner_path = "user"

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token, in hexadecimal.")
    prefix = models.CharField(max_length=8, help_text="The token's first characters, to recognise it.")
    created_at = models.DateTimeField(default=clock.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()
