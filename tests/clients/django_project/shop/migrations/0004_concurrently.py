"""Indexes made outside a transaction, and a constraint validated after it was added."""

from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    RemoveIndexConcurrently,
    ValidateConstraint,
)
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = (("shop", "0003_change_draft"),)
    operations = (
        AddIndexConcurrently("Essay", models.Index(fields=["heading"], name="essay_heading")),
        AddIndexConcurrently("Essay", models.Index(fields=["day"], name="essay_day")),
        RemoveIndexConcurrently("Essay", "essay_day"),
        AddConstraintNotValid(
            "Essay",
            models.CheckConstraint(condition=models.Q(quantity__lt=1000), name="essay_not_long"),
        ),
        ValidateConstraint("Essay", "essay_not_long"),
    )
