"""Every schema operation on a table with rows, in one transaction."""

import django.db.models.functions
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


def check(apps, schema_editor) -> None:
    draft = apps.get_model("shop", "Essay")
    assert draft.objects.filter(quantity=7, heading="draft 7", note="none yet").count() == 1
    assert draft.objects.aggregate(total=models.Sum("text_number"))["total"] == 1225
    draft.objects.filter(heading="draft 0").update(labels=["first", "zero"])


class Migration(migrations.Migration):
    dependencies = (("shop", "0002_draft"),)
    operations = (
        migrations.AddField("Draft", "note", models.CharField(max_length=20, default="none yet")),
        migrations.AddField("Draft", "stamp", models.DateTimeField(null=True)),
        migrations.AddField(
            "Draft", "labels", ArrayField(models.CharField(max_length=9), default=list)
        ),
        migrations.AddField("Draft", "day", models.DateField(db_default=models.functions.Now())),
        migrations.AlterField("Draft", "number", models.BigIntegerField()),
        migrations.AlterField("Draft", "id", models.BigAutoField(primary_key=True)),
        migrations.AlterField("Draft", "text_number", models.IntegerField(null=True)),
        migrations.AlterField("Draft", "title", models.CharField(max_length=80, unique=True)),
        migrations.AlterField("Draft", "note", models.TextField(db_index=True, null=True)),
        migrations.RenameField("Draft", "number", "quantity"),
        migrations.RenameField("Draft", "title", "heading"),
        migrations.RemoveField("Draft", "unwanted"),
        migrations.AddIndex("Draft", models.Index(fields=["quantity"], name="draft_quantity")),
        migrations.AddIndex(
            "Draft",
            models.Index(django.db.models.functions.Lower("note"), name="draft_lower_note"),
        ),
        migrations.AddIndex(
            "Draft",
            models.Index(
                fields=["stamp"], condition=models.Q(stamp__isnull=False), name="draft_stamped"
            ),
        ),
        migrations.RenameIndex("Draft", new_name="draft_amount", old_name="draft_quantity"),
        migrations.RemoveIndex("Draft", "draft_lower_note"),
        migrations.AddConstraint(
            "Draft",
            models.UniqueConstraint(fields=["quantity", "author"], name="draft_quantity_author"),
        ),
        migrations.AddConstraint(
            "Draft",
            models.UniqueConstraint(
                fields=["text_number"],
                name="draft_deferred",
                deferrable=models.Deferrable.DEFERRED,
            ),
        ),
        migrations.AddConstraint(
            "Draft",
            models.CheckConstraint(condition=models.Q(quantity__gte=0), name="draft_quantity_sign"),
        ),
        migrations.RemoveConstraint("Draft", "draft_quantity_author"),
        migrations.AlterUniqueTogether("Draft", {("quantity", "heading")}),
        migrations.AlterUniqueTogether("Draft", set()),
        migrations.AlterField(
            "Draft",
            "author",
            models.ForeignKey("shop.Customer", null=True, on_delete=models.SET_NULL),
        ),
        migrations.RenameModel("Draft", "Essay"),
        migrations.AlterModelTable("Essay", "written_essay"),
        migrations.AddField("Essay", "readers", models.ManyToManyField("shop.Customer")),
        migrations.AlterField("Essay", "author", models.IntegerField(null=True)),
        migrations.RunSQL(
            "COMMENT ON TABLE written_essay IS 'what was a draft'",
            "COMMENT ON TABLE written_essay IS NULL",
        ),
        migrations.RunPython(check, migrations.RunPython.noop),
    )
