"""Settings to start a bot from: presets that everybody sees, and templates that a person keeps for themselves."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from accounts.models import User
from bots import strategies
from bots.models import Bot, BotTemplate
from bots.strategies import STRATEGIES
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import all_accounts

__all__ = ["delete_template", "find_template", "own_templates", "presets", "save_as_template", "seed_presets"]


@transaction.atomic
def seed_presets() -> int:
    """Bring the presets in the database up to date with the strategies' own and return how many there are.

    Runs as often as one likes; presets that no strategy lists any more are removed.
    """
    with all_accounts("presets belong to nobody"):
        kept = []
        for strategy in STRATEGIES.values():
            for preset in strategy.presets:
                if not preset.listed:
                    continue
                values = {
                    "name": preset.label,
                    "description": preset.description[:300],
                    "strategy": strategy.name,
                    "settings": preset.settings.to_json(),  # type: ignore[attr-defined]
                }
                row, _ = BotTemplate.presets.update_or_create(owner=None, slug=preset.name, defaults=values)
                kept.append(row.pk)
        BotTemplate.presets.exclude(pk__in=kept).delete()
        return len(kept)


def presets() -> list[BotTemplate]:
    """Return the presets in the order in which the strategies list them; a preset the database lacks is left out."""
    rows = {row.slug: row for row in BotTemplate.presets.all()}
    order = [preset.name for strategy in STRATEGIES.values() for preset in strategy.presets if preset.listed]
    return [rows[slug] for slug in order if slug in rows]


def own_templates(user: User) -> list[BotTemplate]:
    """Return the templates that ``user`` has saved, by name."""
    return list(BotTemplate.objects.filter(owner=user))


def find_template(slug_or_id: str) -> BotTemplate:
    """Return the preset with that slug, or the caller's own template with that id. Raises NotFound."""
    found = BotTemplate.presets.filter(slug=slug_or_id).first()
    if found is None and slug_or_id.isdecimal() and len(slug_or_id) < 19:
        found = BotTemplate.objects.filter(pk=int(slug_or_id)).first()
    if found is None:
        raise NotFound(message="There is no such template.")
    return found


def save_as_template(user: User, bot: Bot, name: str, description: str = "") -> BotTemplate:
    """Keep the settings of ``bot`` as a template of ``user``. Raises InvalidInput (``name``)."""
    text = " ".join(name.split())
    limit = BotTemplate._meta.get_field("name").max_length or 80
    if not text or len(text) > limit:
        raise InvalidInput("invalid_name", f"Give the template a name of at most {limit} characters.", field="name")
    settings = strategies.get_strategy(bot.strategy).settings_from_json(bot.settings).to_json()
    row = BotTemplate(owner=user, name=text, description=description[:300], strategy=bot.strategy, settings=settings)
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise InvalidInput("name_taken", f"You already have a template called “{text}”.", field="name") from error
    return row


def delete_template(template: BotTemplate) -> None:
    """Remove a template of one's own; bots made from it keep their settings."""
    template.delete()
