"""What the ORM turns into SQL: types, bulk writes, aggregates, subqueries, windows, cursors."""

import datetime
import uuid
from decimal import Decimal

from django.contrib.postgres.aggregates import ArrayAgg, BoolAnd, JSONBAgg, StringAgg
from django.db import connection, models, transaction
from django.db.models import (
    Avg,
    Case,
    Count,
    DecimalField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    StdDev,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    ExtractYear,
    FirstValue,
    Greatest,
    Lag,
    Length,
    Lower,
    NullIf,
    Rank,
    Round,
    RowNumber,
    StrIndex,
    Substr,
    TruncMonth,
    Upper,
)
from django.test import TestCase, TransactionTestCase
from shop.models import Counter, Customer, Line, Order, Product, Tag


def at(year: int, month: int, day: int, hour: int = 12) -> datetime.datetime:
    return datetime.datetime(year, month, day, hour, 30, 15, 123456, tzinfo=datetime.UTC)


class ShopCase(TestCase):
    """Three customers, four products, five orders of one or two lines."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.tags = [Tag.objects.create(name=name) for name in ("red", "green", "blue")]
        cls.products = Product.objects.bulk_create(
            Product(
                sku=f"sku-{i}",
                title=title,
                price=Decimal(10 * i),
                stock=100 - i,
                labels=["all", title[:1]],
                attributes={"size": i, "nested": {"deep": [1, title]}, "flag": i % 2 == 0},
            )
            for i, title in enumerate(("Anvil", "Bucket", "Crate", "Drum"), 1)
        )
        for i, product in enumerate(cls.products):
            product.tags.set(cls.tags[: i % 3 + 1])
        cls.customers = [
            Customer.objects.create(
                email=f"{name}@example.org", full_name=name.title(), joined=at(2024, i, 15)
            )
            for i, name in enumerate(("ada", "bob", "cyd"), 1)
        ]
        for i in range(5):
            order = Order.objects.create(customer=cls.customers[i % 2])
            for product in cls.products[i % 3 : i % 3 + 2]:
                Line.objects.create(
                    order=order, product=product, quantity=i + 1, price=product.price
                )


class TypesTest(TestCase):
    def test_every_field_comes_back(self) -> None:
        key = uuid.uuid4()
        values = {
            "sku": "s",
            "title": "Ünïcödé 'quoted' %s \\ \U0001f600",
            "price": Decimal("12345678.90"),
            "stock": 2_147_483_647,
            "labels": ["a", "b,c", 'd"e', "", "null"],
            "attributes": {"a": [1, 2.5, None, True, {"b": "ü"}]},
            "weight": 0.1 + 0.2,
            "is_active": False,
            "picture": bytes(range(256)),
            "delivery": datetime.timedelta(days=3, hours=4, microseconds=5),
            "opens": datetime.time(8, 30, 0, 1),
        }
        found = Product.objects.get(pk=Product.objects.create(**values).pk)
        for name, value in values.items():
            got = getattr(found, name)
            self.assertEqual(bytes(got) if name == "picture" else got, value, name)
        customer = Customer.objects.create(
            email="a@x",
            full_name="",
            reference=key,
            joined=at(1999, 12, 31),
            birthday=datetime.date(1900, 2, 28),
        )
        customer.refresh_from_db()
        self.assertEqual(
            (customer.reference, customer.joined, customer.birthday),
            (key, at(1999, 12, 31), datetime.date(1900, 2, 28)),
        )

    def test_generated_field(self) -> None:
        counter = Counter.objects.create(name="x", value=21)
        self.assertEqual(counter.doubled, 42)
        Counter.objects.update(value=F("doubled"))
        counter.refresh_from_db()
        self.assertEqual(counter.doubled, 84)


class LookupTest(ShopCase):
    def titles(self, *conditions: Q, **lookups: object) -> list[str]:
        found = Product.objects.filter(*conditions, **lookups).order_by("title").distinct()
        return [title[0] for title in found.values_list("title", flat=True)]

    def test_text(self) -> None:
        self.assertEqual(self.titles(title__iexact="anvil"), ["A"])
        self.assertEqual(self.titles(title__icontains="R"), ["C", "D"])
        self.assertEqual(self.titles(title__istartswith="b"), ["B"])
        self.assertEqual(self.titles(title__endswith="t"), ["B"])
        self.assertEqual(self.titles(title__iregex=r"^[ab]"), ["A", "B"])
        self.assertEqual(self.titles(title__regex=r"^[ab]"), [])
        self.assertEqual(self.titles(title__in=["Anvil", "Drum"]), ["A", "D"])
        self.assertEqual(self.titles(~Q(title__contains="u") & Q(price__lt=25)), ["A"])
        self.assertEqual(self.titles(price__range=(10, 20)), ["A", "B"])
        self.assertEqual(self.titles(tags__name="blue"), ["C"])
        self.assertEqual(self.titles(weight__isnull=True, picture=None), ["A", "B", "C", "D"])

    def test_json(self) -> None:
        self.assertEqual(self.titles(attributes__size=2), ["B"])
        self.assertEqual(self.titles(attributes__size__gt=2), ["C", "D"])
        self.assertEqual(self.titles(attributes__nested__deep__1="Crate"), ["C"])
        self.assertEqual(self.titles(attributes__nested__deep__1__startswith="D"), ["D"])
        self.assertEqual(self.titles(attributes__contains={"flag": True}), ["B", "D"])
        self.assertEqual(self.titles(attributes__has_key="size"), ["A", "B", "C", "D"])
        self.assertEqual(self.titles(attributes__has_any_keys=["no", "no2"]), [])
        self.assertEqual(self.titles(attributes__missing__isnull=True), ["A", "B", "C", "D"])
        self.assertEqual(
            list(Product.objects.order_by("-attributes__size").values_list("attributes__size")),
            [(4,), (3,), (2,), (1,)],
        )

    def test_array(self) -> None:
        self.assertEqual(self.titles(labels__contains=["A"]), ["A"])
        self.assertEqual(self.titles(labels__overlap=["B", "C"]), ["B", "C"])
        self.assertEqual(self.titles(labels__contained_by=["all", "D", "x"]), ["D"])
        self.assertEqual(self.titles(labels__len=2, labels__1="C"), ["C"])
        self.assertEqual(self.titles(labels__0="all"), ["A", "B", "C", "D"])
        self.assertEqual(self.titles(labels__0_1=["all"], labels=["all", "A"]), ["A"])

    def test_dates(self) -> None:
        self.assertEqual(Customer.objects.filter(joined__year=2024, joined__month=2).count(), 1)
        self.assertEqual(
            Customer.objects.filter(joined__date=datetime.date(2024, 3, 15)).count(), 1
        )
        self.assertEqual(
            Customer.objects.filter(joined__time__gte=datetime.time(12, 30)).count(), 3
        )
        self.assertEqual(Customer.objects.filter(joined__week_day=2).count(), 1)
        self.assertEqual(
            Customer.objects.filter(joined__iso_year=2024, joined__quarter=1).count(), 3
        )
        months = Customer.objects.datetimes("joined", "month")
        self.assertEqual([m.month for m in months], [1, 2, 3])
        self.assertEqual(len(Customer.objects.dates("joined", "day", order="DESC")), 3)
        found = Customer.objects.annotate(m=TruncMonth("joined"), y=ExtractYear("joined"))
        month = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)
        self.assertEqual(found.order_by("-joined").values_list("m", "y").first(), (month, 2024))


class WriteTest(ShopCase):
    def test_bulk_create_conflicts(self) -> None:
        rows = [Counter(name=f"n{i}", value=i) for i in range(2500)]
        made = Counter.objects.bulk_create(rows, batch_size=1000)
        self.assertEqual(len({row.pk for row in made}), 2500)
        self.assertEqual(made[7].doubled, 14)
        again = [Counter(name="n1", value=-1), Counter(name="new", value=5)]
        Counter.objects.bulk_create(again, ignore_conflicts=True)
        self.assertEqual(Counter.objects.get(name="n1").value, 1)
        Counter.objects.bulk_create(
            [Counter(name="n1", value=-1), Counter(name="newer", value=6)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["value"],
        )
        found = Counter.objects.filter(name__in=["n1", "new", "newer"]).order_by("name")
        self.assertEqual(list(found.values_list("value", flat=True)), [-1, 5, 6])

    def test_bulk_update_and_in_bulk(self) -> None:
        for product in self.products:
            product.stock += 1000
            product.attributes = {"now": product.stock}
        self.assertEqual(Product.objects.bulk_update(self.products, ["stock", "attributes"]), 4)
        found = Product.objects.in_bulk([p.pk for p in self.products])
        self.assertEqual(found[self.products[0].pk].attributes, {"now": 1099})
        self.assertEqual(sorted(Tag.objects.in_bulk(field_name="name")), ["blue", "green", "red"])

    def test_expressions(self) -> None:
        changed = Product.objects.filter(price__gt=F("stock") / 4).update(
            stock=F("stock") - 1, price=Round(F("price") * Decimal("1.1"), 2)
        )
        self.assertEqual(changed, 2)
        self.assertEqual(
            list(Product.objects.order_by("sku").values_list("stock", "price"))[2:],
            [(96, Decimal("33.00")), (95, Decimal("44.00"))],
        )
        newest = Order.objects.filter(customer=OuterRef("pk")).order_by("-pk").values("state")[:1]
        Customer.objects.update(full_name=Coalesce(Subquery(newest), Value("none")))
        self.assertEqual(
            list(Customer.objects.order_by("email").values_list("full_name", flat=True)),
            ["open", "open", "none"],
        )
        Product.objects.update(
            title=Case(When(sku="sku-1", then=Value("First")), default=Concat("sku", Value("!")))
        )
        self.assertEqual(Product.objects.order_by("sku").first().title, "First")

    def test_cascades(self) -> None:
        with self.assertRaises(models.ProtectedError):
            self.customers[0].delete()
        lines = Line.objects.filter(order__customer=self.customers[0]).count()
        count, by_model = Order.objects.filter(customer=self.customers[0]).delete()
        self.assertEqual((count, by_model["shop.Line"]), (lines + 3, lines))
        self.customers[2].referrer = self.customers[0]
        self.customers[2].save()
        self.customers[0].delete()
        self.customers[2].refresh_from_db()
        self.assertIsNone(self.customers[2].referrer)

    def test_relations(self) -> None:
        product = self.products[3]
        product.tags.add(self.tags[2], self.tags[2])
        product.tags.remove(self.tags[0])
        self.assertEqual([t.name for t in product.tags.order_by("name")], ["blue"])
        product.tags.clear()
        self.assertFalse(product.tags.exists())
        self.tags[0].product_set.create(sku="z", title="Zinc", price=1)
        self.assertEqual(Product.objects.filter(tags__name="red").count(), 4)


class AggregateTest(ShopCase):
    def test_aggregate(self) -> None:
        found = Product.objects.aggregate(
            Sum("price"), Avg("price"), Min("title"), Max("stock"), StdDev("stock"),
            all=Count("*"), cheap=Count("pk", filter=Q(price__lt=25)),
            none=Sum("price", filter=Q(price__lt=0), default=0),
        )  # fmt: skip
        self.assertAlmostEqual(found.pop("stock__stddev"), 1.118, 3)
        self.assertEqual(
            found,
            {
                "price__sum": Decimal(100),
                "price__avg": Decimal(25),
                "title__min": "Anvil",
                "stock__max": 99,
                "all": 4,
                "cheap": 2,
                "none": 0,
            },
        )

    def test_annotate(self) -> None:
        spent = ExpressionWrapper(
            F("orders__lines__quantity") * F("orders__lines__price"), output_field=DecimalField()
        )
        rows = (
            Customer.objects.annotate(
                spent=Coalesce(Sum(spent), Decimal(0)), placed=Count("orders", distinct=True)
            )
            .filter(spent__gte=0)
            .order_by("-spent", "email")
            .values_list("email", "spent", "placed")
        )
        self.assertEqual(
            list(rows),
            [
                ("ada@example.org", Decimal(490), 3),
                ("bob@example.org", Decimal(220), 2),
                ("cyd@example.org", Decimal(0), 0),
            ],
        )
        by_state = Order.objects.values("state").annotate(n=Count("pk")).order_by("state")
        self.assertEqual(list(by_state), [{"state": "open", "n": 5}])
        having = Tag.objects.alias(n=Count("product")).filter(n__gt=1).order_by("name")
        self.assertEqual([t.name for t in having], ["green", "red"])

    def test_postgres_aggregates(self) -> None:
        found = Product.objects.aggregate(
            names=ArrayAgg("title", ordering="-title"),
            text=StringAgg("title", delimiter="; ", ordering="title"),
            sizes=JSONBAgg("attributes__size", ordering="pk"),
            all=BoolAnd("is_active"),
        )
        self.assertEqual(found["names"], ["Drum", "Crate", "Bucket", "Anvil"])
        self.assertEqual(found["text"], "Anvil; Bucket; Crate; Drum")
        self.assertEqual((found["sizes"], found["all"]), ([1, 2, 3, 4], True))

    def test_subqueries(self) -> None:
        busy = Order.objects.filter(customer=OuterRef("pk"))
        self.assertEqual(
            [c.email[:3] for c in Customer.objects.filter(~Exists(busy)).order_by("email")], ["cyd"]
        )
        best = Line.objects.filter(product=OuterRef("pk")).order_by("-quantity", "pk")
        rows = Product.objects.annotate(best=Subquery(best.values("quantity")[:1]))
        self.assertEqual([p.best for p in rows.order_by("title")], [4, 5, 5, 3])
        ordered = Product.objects.filter(pk__in=Line.objects.filter(quantity=5).values("product"))
        self.assertEqual([p.title for p in ordered.order_by("pk")], ["Bucket", "Crate"])

    def test_windows(self) -> None:
        rows = Line.objects.annotate(
            number=Window(RowNumber(), partition_by="product", order_by=["-quantity", "pk"]),
            rank=Window(Rank(), order_by=F("price").desc()),
            before=Window(Lag("quantity", default=0), order_by="pk"),
            running=Window(Sum("quantity"), order_by="pk"),
            first=Window(FirstValue("price"), partition_by="order", order_by="pk"),
        )
        self.assertEqual(
            list(rows.filter(number=1).order_by("product").values_list("quantity", "rank")),
            [(4, 9), (5, 5), (5, 2), (3, 1)],
        )
        self.assertEqual(
            [r.running for r in rows.order_by("pk")], [1, 2, 4, 6, 9, 12, 16, 20, 25, 30]
        )

    def test_functions(self) -> None:
        row = (
            Product.objects.annotate(
                up=Upper("title"), low=Lower("title"), size=Length("title"),
                part=Substr("title", 2, 3), where=StrIndex("title", Value("vil")),
                number=Cast("price", models.IntegerField()), big=Greatest("stock", Value(50)),
                gone=NullIf("title", Value("Anvil", output_field=models.TextField())),
            )
            .values_list("up", "low", "size", "part", "where", "number", "big", "gone")
            .get(title="Anvil")
        )  # fmt: skip
        self.assertEqual(row, ("ANVIL", "anvil", 5, "nvi", 3, 10, 99, None))

    def test_sets_and_pages(self) -> None:
        cheap, dear = Product.objects.filter(price__lt=35), Product.objects.filter(price__gt=15)
        self.assertEqual(len(cheap.union(dear)), 4)
        self.assertEqual(len(cheap.union(dear, all=True)), 6)
        self.assertEqual(len(cheap.intersection(dear)), 2)
        self.assertEqual([p.title for p in cheap.difference(dear)], ["Anvil"])
        self.assertEqual(
            [p.sku for p in Product.objects.order_by("-price")[1:3]], ["sku-3", "sku-2"]
        )
        first = Line.objects.order_by("order_id", "-quantity", "pk").distinct("order_id")
        self.assertEqual(len(first), 5)
        self.assertIn("Product", repr(Product.objects.raw("SELECT * FROM shop_product")[0]))
        self.assertIn("Scan", Product.objects.filter(price=1).explain(analyze=True))
        self.assertTrue(Product.objects.filter(sku="sku-1").exists())
        self.assertEqual(Product.objects.none().count(), 0)

    def test_prefetch(self) -> None:
        with self.assertNumQueries(3):
            orders = Order.objects.select_related("customer").prefetch_related(
                Prefetch("lines", Line.objects.order_by("-quantity")), "lines__product"
            )
            self.assertEqual(sum(len(o.lines.all()) for o in orders), 10)


class IteratorTest(TransactionTestCase):
    """Server-side cursors: WITH HOLD in autocommit, plain ones in a transaction."""

    def test_iterator(self) -> None:
        Counter.objects.bulk_create(Counter(name=str(i), value=i) for i in range(5000))
        expected = list(range(5000))

        def values() -> list[int]:
            rows = Counter.objects.order_by("value").iterator(chunk_size=700)
            found = []
            for row in rows:
                if row.value == 2500:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT count(*) FROM pg_cursors")
                        self.assertEqual(cursor.fetchone(), (1,))
                found.append(row.value)
            return found

        self.assertEqual(values(), expected)
        with transaction.atomic():
            self.assertEqual(values(), expected)
