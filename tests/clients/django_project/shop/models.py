"""A shop: the field types, constraints and relations that a business application has."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone


class Customer(models.Model):
    """Somebody who buys."""

    email = models.EmailField(unique=True)
    full_name = models.CharField(max_length=100)
    reference = models.UUIDField(default=uuid.uuid4, unique=True)
    joined = models.DateTimeField(default=timezone.now)
    birthday = models.DateField(null=True)
    preferences = models.JSONField(default=dict)
    referrer = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL)


class Tag(models.Model):
    """A word for products."""

    name = models.SlugField(unique=True)


class Product(models.Model):
    """Something to buy."""

    sku = models.CharField(max_length=20)
    title = models.TextField(db_index=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)
    labels = ArrayField(models.CharField(max_length=20), default=list)
    attributes = models.JSONField(null=True)
    tags = models.ManyToManyField(Tag)
    weight = models.FloatField(null=True)
    is_active = models.BooleanField(default=True)
    picture = models.BinaryField(null=True)
    delivery = models.DurationField(null=True)
    opens = models.TimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["sku"], name="product_sku_unique"),
            models.UniqueConstraint(
                fields=["title"], condition=Q(is_active=True), name="product_active_title_unique"
            ),
            models.CheckConstraint(condition=Q(price__gte=0), name="product_price_not_negative"),
        )
        indexes = (models.Index(fields=["price", "-stock"], name="product_price_stock"),)


class Order(models.Model):
    """What a customer ordered."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders")
    placed = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=10, default="open")

    class Meta:
        ordering = ("placed", "id")


class Line(models.Model):
    """One product of an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    quantity = models.PositiveSmallIntegerField(default=1)
    price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["order", "product"], name="line_once_per_order"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="line_quantity_positive"),
        )


class Account(models.Model):
    """Money, for transfers."""

    owner = models.OneToOneField(Customer, on_delete=models.CASCADE)
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=0)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(balance__gte=0), name="account_not_overdrawn"),
        )


class Counter(models.Model):
    """A number with a name."""

    name = models.CharField(max_length=20, unique=True)
    value = models.IntegerField(default=0)
    doubled = models.GeneratedField(
        expression=F("value") * 2, output_field=models.IntegerField(), db_persist=True
    )
