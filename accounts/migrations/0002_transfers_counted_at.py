from django.db import migrations, models
from django.db.models import F


def count_from_when_they_happened(apps, schema_editor):
    apps.get_model("accounts", "Transfer").objects.filter(counted_at__isnull=True).update(counted_at=F("at"))


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="transfer",
            name="counted_at",
            field=models.DateTimeField(
                help_text="From when on balances contain it: later than it happened where the venue listed it late.",
                null=True,
            ),
        ),
        migrations.RunPython(count_from_when_they_happened, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="transfer",
            name="counted_at",
            field=models.DateTimeField(
                help_text="From when on balances contain it: later than it happened where the venue listed it late."
            ),
        ),
        migrations.AlterField(
            model_name="transfer",
            name="at",
            field=models.DateTimeField(help_text="When it happened, as the venue says."),
        ),
        migrations.AddField(
            model_name="venuefunds",
            name="transfers_asked_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the last list of transfers that came was asked for.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="valuesnapshot",
            name="taken_at",
            field=models.DateTimeField(help_text="The moment that the balances are of."),
        ),
    ]
