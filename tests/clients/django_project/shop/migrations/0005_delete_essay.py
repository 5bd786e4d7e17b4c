"""The model goes, and leaves nothing behind."""

from django.db import migrations


def forget_author(apps, schema_editor) -> None:
    apps.get_model("shop", "Customer").objects.filter(email="draft@x").delete()


class Migration(migrations.Migration):
    dependencies = (("shop", "0004_concurrently"),)
    operations = (
        migrations.DeleteModel("Essay"),
        migrations.RunPython(forget_author, migrations.RunPython.noop),
    )
