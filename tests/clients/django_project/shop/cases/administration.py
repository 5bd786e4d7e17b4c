"""Users, sessions, the admin's pages, and the commands that carry data in and out."""

import io
import json
import tempfile
from pathlib import Path

from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import TestCase, TransactionTestCase
from shop.models import Customer, Product, Tag


class UserTest(TestCase):
    def setUp(self) -> None:
        call_command(
            "createsuperuser", "--noinput", username="root", email="r@example.org", verbosity=0
        )
        self.user = User.objects.get(username="root")
        self.user.set_password("secret")
        self.user.save()

    def test_authentication(self) -> None:
        self.assertIsNone(authenticate(username="root", password="wrong"))
        self.assertEqual(authenticate(username="root", password="secret"), self.user)
        group = Group.objects.create(name="staff")
        group.permissions.add(Permission.objects.get(codename="change_product"))
        plain = User.objects.create_user("plain", password="p")
        plain.groups.add(group)
        self.assertEqual(plain.get_all_permissions(), {"shop.change_product"})
        self.assertEqual(ContentType.objects.get_for_model(Product).model, "product")

    def test_admin(self) -> None:
        self.assertTrue(self.client.login(username="root", password="secret"))
        Product.objects.create(sku="s", title="Visible", price=1)
        self.assertContains(self.client.get("/admin/"), "Products")
        self.assertContains(self.client.get("/admin/shop/product/"), "1 product")
        form = {
            "email": "new@example.org",
            "full_name": "New",
            "reference": "12345678-1234-5678-1234-567812345678",
            "joined_0": "2024-01-02",
            "joined_1": "03:04:05",
            "birthday": "2000-01-01",
            "preferences": '{"a": 1}',
        }
        answer = self.client.post("/admin/shop/customer/add/", form)
        self.assertEqual(answer.status_code, 302)
        customer = Customer.objects.get()
        self.assertEqual(customer.preferences, {"a": 1})
        page = self.client.get(f"/admin/shop/customer/{customer.pk}/history/")
        self.assertContains(page, "Added")
        gone = self.client.post(f"/admin/shop/customer/{customer.pk}/delete/", {"post": "yes"})
        self.assertEqual((gone.status_code, Customer.objects.count()), (302, 0))
        self.client.logout()
        self.assertEqual(self.client.get("/admin/").status_code, 302)


class DataTest(TransactionTestCase):
    def test_dump_flush_load(self) -> None:
        for i in range(3):
            Tag.objects.create(name=f"tag-{i}")
        product = Product.objects.create(
            sku="s", title="T", price="1.50", labels=["x"], attributes={"a": None}, picture=b"\0\1"
        )
        product.tags.set(Tag.objects.all())
        Customer.objects.create(id=50, email="a@x", full_name="A", referrer_id=50)
        before = io.StringIO()
        call_command("dumpdata", "shop", stdout=before)
        self.assertEqual(len(json.loads(before.getvalue())), 5)
        call_command("flush", "--noinput", verbosity=0)
        self.assertEqual(Product.objects.count() + Tag.objects.count(), 0)
        with tempfile.TemporaryDirectory() as folder:
            fixture = Path(folder) / "data.json"
            fixture.write_text(before.getvalue(), encoding="utf-8")
            call_command("loaddata", str(fixture), verbosity=0)
        after = io.StringIO()
        call_command("dumpdata", "shop", stdout=after)
        self.assertEqual(json.loads(after.getvalue()), json.loads(before.getvalue()))
        self.assertGreater(Customer.objects.create(email="b@x", full_name="B").pk, 50)

    def test_flush_restarts_sequences(self) -> None:
        Tag.objects.create(name="x")
        call_command("flush", "--noinput", verbosity=0)
        with self.subTest("ids of contrib apps are recreated"):
            self.assertTrue(Permission.objects.filter(codename="add_tag").exists())

    def test_inspectdb(self) -> None:
        text = io.StringIO()
        call_command("inspectdb", "shop_line", "shop_product", stdout=text)
        for line in (
            "order = models.ForeignKey('ShopOrder', models.DO_NOTHING)",
            "price = models.DecimalField(max_digits=10, decimal_places=2)",
            "attributes = models.JSONField(blank=True, null=True)",
            "unique_together = (('order', 'product'),)",
            "delivery = models.DurationField(blank=True, null=True)",
        ):
            self.assertIn(line, text.getvalue())
