"""A person's own settings: how pages look, how they sign in, and the token for the API."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import tokens
from accounts.forms import ProfileForm, TokenForm
from accounts.models import ApiToken, User
from accounts.selection import SignedInRequest
from accounts.views import back


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: SignedInRequest) -> HttpResponse:
    """Time zone and theme."""
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=request.user.pk))
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("settings")
    return render(
        request, "settings/profile.html", {"section": "profile", "form": form}, status=422 if form.errors else 200
    )


@login_required
@require_POST
def theme(request: SignedInRequest) -> HttpResponse:
    """Switch light and dark; 204 for the script, back to the page without it."""
    wanted = request.POST.get("theme", "")
    if wanted in User.Theme.values:
        User.objects.filter(pk=request.user.pk).update(theme=wanted)
    if request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(status=204)
    return back(request, "settings")


@login_required
@require_GET
def security(request: SignedInRequest) -> HttpResponse:
    """What protects the sign-in, and where each part is changed."""
    from allauth.mfa.models import Authenticator
    from allauth.usersessions.models import UserSession

    kinds = set(Authenticator.objects.filter(user=request.user).values_list("type", flat=True))
    context = {
        "section": "security",
        "has_app": Authenticator.Type.TOTP in kinds,
        "has_key": Authenticator.Type.WEBAUTHN in kinds,
        "has_codes": Authenticator.Type.RECOVERY_CODES in kinds,
        "sessions": UserSession.objects.filter(user=request.user).count(),
    }
    return render(request, "settings/security.html", context)


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def api_token(request: SignedInRequest) -> HttpResponse:
    """The token that programs sign in with: made here, shown once, revoked here."""
    shown, form = "", TokenForm()
    if request.method == "POST":
        if request.POST.get("action") != "create":
            tokens.revoke(request.user)
            messages.success(request, "The token is revoked. Programs that use it are refused from now on.")
            return redirect("settings_api")
        form = TokenForm(request.POST)
        if form.is_valid():
            shown, form = tokens.renew(request.user, form.cleaned_data["name"], form.expires_at()), TokenForm()
    context = {
        "section": "api",
        "token": ApiToken.objects.filter(user=request.user).first(),
        "shown": shown,
        "form": form,
    }
    return render(request, "settings/api.html", context, status=422 if form.errors else 200)
