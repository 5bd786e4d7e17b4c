"""A model that later migrations turn inside out, with rows in it."""

import django.db.models.deletion
from django.db import migrations, models


def fill(apps, schema_editor) -> None:
    draft = apps.get_model("shop", "Draft")
    customer = apps.get_model("shop", "Customer").objects.create(email="draft@x", full_name="D")
    draft.objects.bulk_create(
        draft(title=f"draft {i}", number=i, text_number=str(i), author=customer) for i in range(50)
    )


def empty(apps, schema_editor) -> None:
    apps.get_model("shop", "Draft").objects.all().delete()
    apps.get_model("shop", "Customer").objects.filter(email="draft@x").delete()


class Migration(migrations.Migration):
    dependencies = (("shop", "0001_initial"),)
    operations = (
        migrations.CreateModel(
            name="Draft",
            fields=[
                ("id", models.AutoField(primary_key=True)),
                ("title", models.CharField(max_length=40)),
                ("number", models.IntegerField()),
                ("text_number", models.CharField(max_length=10)),
                ("unwanted", models.DateField(null=True)),
                (
                    "author",
                    models.ForeignKey("shop.Customer", on_delete=django.db.models.deletion.CASCADE),
                ),
            ],
        ),
        migrations.RunPython(fill, empty),
    )
