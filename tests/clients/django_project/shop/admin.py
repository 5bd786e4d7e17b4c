"""What the admin shows."""

from django.contrib import admin
from shop.models import Customer, Product

admin.site.register([Customer, Product])
