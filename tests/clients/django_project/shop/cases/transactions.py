"""atomic in all its forms, savepoints, what runs on commit, and constraints checked late."""

from django.db import DataError, IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import TransactionTestCase, override_settings
from django.urls import path
from shop.models import Account, Counter, Customer, Line, Order, Tag


def names() -> list[str]:
    return list(Tag.objects.order_by("name").values_list("name", flat=True))


class Oops(Exception):
    pass


def failing_view(_request: HttpRequest) -> HttpResponse:
    Tag.objects.create(name="from-view")
    raise Oops


urlpatterns = [path("fail", failing_view), path("well", lambda _: HttpResponse(str(names())))]


class AtomicTest(TransactionTestCase):
    def test_commit_and_rollback(self) -> None:
        with transaction.atomic():
            Tag.objects.create(name="kept")
        with self.assertRaises(Oops), transaction.atomic():
            Tag.objects.create(name="undone")
            raise Oops
        self.assertEqual(names(), ["kept"])
        self.assertTrue(connection.get_autocommit())

    def test_integrity_error_inside_goes_on_outside(self) -> None:
        with transaction.atomic():
            Tag.objects.create(name="one")
            for _ in range(3):
                with self.assertRaises(IntegrityError) as caught, transaction.atomic():
                    Tag.objects.create(name="inner")
                    Tag.objects.create(name="one")
                self.assertEqual(caught.exception.__cause__.sqlstate, "23505")
                self.assertEqual(
                    caught.exception.__cause__.diag.constraint_name, "shop_tag_name_key"
                )
            with self.assertRaises(DataError), transaction.atomic():
                Tag.objects.create(name="x" * 51)
            Tag.objects.create(name="two")
        self.assertEqual(names(), ["one", "two"])

    def test_deeply_nested(self) -> None:
        with transaction.atomic():
            for depth in range(5):
                try:
                    with transaction.atomic():
                        Tag.objects.create(name=f"outer-{depth}")
                        with transaction.atomic():
                            Tag.objects.create(name=f"inner-{depth}")
                            if depth % 2:
                                raise Oops
                except Oops:
                    Tag.objects.create(name=f"after-{depth}")
        expected = [f"{w}-{d}" for w in ("inner", "outer") for d in (0, 2, 4)]
        self.assertEqual(names(), sorted([*expected, "after-1", "after-3"]))

    def test_error_without_savepoint_spoils_the_block(self) -> None:
        with self.assertRaises(transaction.TransactionManagementError), transaction.atomic():
            Tag.objects.create(name="one")
            with self.assertRaises(IntegrityError):
                Tag.objects.create(name="one")
            Tag.objects.create(name="two")
        self.assertEqual(names(), [])

    def test_savepoint_false(self) -> None:
        with transaction.atomic():
            Tag.objects.create(name="outer")
            with self.assertRaises(Oops), transaction.atomic(savepoint=False):
                Tag.objects.create(name="inner")
                raise Oops
            self.assertTrue(transaction.get_rollback())
        self.assertEqual(names(), [])

    def test_durable(self) -> None:
        with transaction.atomic(durable=True):
            Tag.objects.create(name="durable")
        with transaction.atomic(), self.assertRaises(RuntimeError):
            with transaction.atomic(durable=True):
                pass
        self.assertEqual(names(), ["durable"])

    def test_set_rollback(self) -> None:
        with transaction.atomic():
            Tag.objects.create(name="outer")
            with transaction.atomic():
                Tag.objects.create(name="inner")
                transaction.set_rollback(True)
            self.assertEqual(names(), ["outer"])
        with transaction.atomic():
            Tag.objects.create(name="undone")
            transaction.set_rollback(True)
        self.assertEqual(names(), ["outer"])

    def test_savepoints_by_hand(self) -> None:
        with transaction.atomic():
            first = transaction.savepoint()
            Tag.objects.create(name="a")
            second = transaction.savepoint()
            Tag.objects.create(name="b")
            transaction.savepoint_rollback(second)
            Tag.objects.create(name="c")
            transaction.savepoint_commit(first)
            transaction.clean_savepoints()
        self.assertEqual(names(), ["a", "c"])

    def test_autocommit_off(self) -> None:
        transaction.set_autocommit(False)
        try:
            Tag.objects.create(name="undone")
            transaction.rollback()
            Tag.objects.create(name="kept")
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        self.assertEqual(names(), ["kept"])

    def test_schema_change_rolled_back(self) -> None:
        with self.assertRaises(Oops), transaction.atomic():
            with connection.schema_editor(atomic=False) as editor:
                field = Counter._meta.get_field("value").clone()
                field.set_attributes_from_name("extra")
                editor.add_field(Counter, field)
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO shop_counter (name, value, extra) VALUES ('x', 1, 2)")
            raise Oops
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, "shop_counter")
        self.assertEqual([c.name for c in columns], ["id", "name", "value", "doubled"])

    @override_settings(ROOT_URLCONF=__name__)
    def test_atomic_requests(self) -> None:
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        try:
            with self.assertRaises(Oops):
                self.client.get("/fail")
            self.assertEqual(self.client.get("/well").content, b"[]")
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False


class OnCommitTest(TransactionTestCase):
    def test_order_and_what_was_rolled_back(self) -> None:
        called: list[str] = []
        with transaction.atomic():
            transaction.on_commit(lambda: called.append(f"first {names()}"))
            with self.assertRaises(Oops), transaction.atomic():
                transaction.on_commit(lambda: called.append("never"))
                raise Oops
            with transaction.atomic():
                transaction.on_commit(lambda: called.append("second"))
            Tag.objects.create(name="x")
            self.assertEqual(called, [])
        self.assertEqual(called, ["first ['x']", "second"])

    def test_not_when_the_commit_fails(self) -> None:
        called: list[str] = []
        with self.assertRaises(IntegrityError), transaction.atomic():
            transaction.on_commit(lambda: called.append("never"))
            Account.objects.create(owner_id=12345)
        self.assertEqual(called, [])


class LateConstraintTest(TransactionTestCase):
    def test_child_before_parent(self) -> None:
        with transaction.atomic():
            order = Order.objects.create(customer_id=77)
            Customer.objects.create(id=77, email="late@x", full_name="Late")
        self.assertEqual(Order.objects.get(pk=order.pk).customer.email, "late@x")

    def test_violation_at_commit(self) -> None:
        with self.assertRaises(IntegrityError) as caught, transaction.atomic():
            Order.objects.create(customer_id=78)
        self.assertEqual(caught.exception.__cause__.sqlstate, "23503")
        self.assertEqual(Order.objects.count(), 0)

    def test_check_constraints_now(self) -> None:
        with self.assertRaises(IntegrityError), transaction.atomic():
            Line.objects.create(order_id=1, product_id=1, price=1)
            connection.check_constraints()
        with self.assertRaises(IntegrityError) as caught:
            Line.objects.create(order_id=1, product_id=1, price=1, quantity=0)
        self.assertEqual(caught.exception.__cause__.diag.constraint_name, "line_quantity_positive")

    def test_constraint_checks_disabled(self) -> None:
        with transaction.atomic():
            with connection.constraint_checks_disabled():
                order = Order.objects.create(customer_id=79)
            order.delete()
        self.assertEqual(Order.objects.count(), 0)
