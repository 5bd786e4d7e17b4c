"""select_for_update, races of get_or_create, and retry loops at the higher levels."""

import threading
from decimal import Decimal

import psycopg
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.test import TransactionTestCase
from shop.cases.threads import WAIT_SECONDS, at_once, with_retry
from shop.models import Account, Counter, Customer, Order


class SelectForUpdateTest(TransactionTestCase):
    def setUp(self) -> None:
        self.customer = Customer.objects.create(email="a@x", full_name="A")
        Account.objects.create(owner=self.customer, balance=100)
        for name in ("a", "b", "c"):
            Counter.objects.create(name=name)

    def elsewhere(self, work):
        return at_once(work)[0]

    def test_waits_for_the_holder(self) -> None:
        waiting = threading.Event()

        def second() -> int:
            with transaction.atomic():
                waiting.set()
                return Counter.objects.select_for_update().get(name="a").value

        with transaction.atomic():
            counter = Counter.objects.select_for_update().get(name="a")
            found: list[object] = []
            thread = threading.Thread(target=lambda: found.extend(at_once(second)))
            thread.start()
            self.assertTrue(waiting.wait(WAIT_SECONDS))
            counter.value = 7
            counter.save()
        thread.join(WAIT_SECONDS)
        self.assertEqual(found, [7])

    def test_nowait(self) -> None:
        def second() -> None:
            with transaction.atomic():
                Counter.objects.select_for_update(nowait=True).get(name="a")

        with transaction.atomic():
            Counter.objects.select_for_update().get(name="a")
            error = self.elsewhere(second)
        self.assertIsInstance(error, OperationalError)
        self.assertIsInstance(error.__cause__, psycopg.errors.LockNotAvailable)
        self.assertIn('could not obtain lock on row in relation "shop_counter"', str(error))
        self.assertIsNone(self.elsewhere(second))

    def test_skip_locked(self) -> None:
        def second() -> list[str]:
            with transaction.atomic():
                rows = Counter.objects.select_for_update(skip_locked=True).order_by("name")
                return [row.name for row in rows]

        with transaction.atomic():
            Counter.objects.select_for_update().get(name="b")
            self.assertEqual(self.elsewhere(second), ["a", "c"])
        self.assertEqual(self.elsewhere(second), ["a", "b", "c"])

    def test_of(self) -> None:
        def lock(model) -> str:
            with transaction.atomic():
                model.objects.select_for_update(nowait=True).get()
            return "locked"

        with transaction.atomic():
            account = Account.objects.select_related("owner").select_for_update(of=("self",)).get()
            self.assertEqual(account.owner.email, "a@x")
            self.assertEqual(self.elsewhere(lambda: lock(Customer)), "locked")
            self.assertIsInstance(self.elsewhere(lambda: lock(Account)), OperationalError)
        with transaction.atomic():
            Account.objects.select_related("owner").select_for_update(of=("owner",)).get()
            self.assertEqual(self.elsewhere(lambda: lock(Account)), "locked")
            self.assertIsInstance(self.elsewhere(lambda: lock(Customer)), OperationalError)

    def test_no_key(self) -> None:
        def order() -> int:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '300ms'")
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                return Order.objects.create(customer=self.customer).pk

        with transaction.atomic():
            Customer.objects.select_for_update(no_key=True).get()
            self.assertIsInstance(self.elsewhere(order), int)
        with transaction.atomic():
            Customer.objects.select_for_update().get()
            self.assertIsInstance(self.elsewhere(order), OperationalError)

    def test_needs_a_transaction(self) -> None:
        with self.assertRaises(transaction.TransactionManagementError):
            Counter.objects.select_for_update().get(name="a")

    def test_deadlock(self) -> None:
        both = threading.Barrier(2)

        def lock(first: str, second: str) -> str:
            with transaction.atomic():
                Counter.objects.filter(name=first).update(value=F("value") + 1)
                both.wait(WAIT_SECONDS)
                Counter.objects.filter(name=second).update(value=F("value") + 1)
            return "done"

        outcomes = at_once(lambda: lock("a", "b"), lambda: lock("b", "a"))
        errors = [outcome for outcome in outcomes if outcome != "done"]
        self.assertEqual(len(errors), 1, outcomes)
        self.assertIsInstance(errors[0], OperationalError)
        self.assertIsInstance(errors[0].__cause__, psycopg.errors.DeadlockDetected)
        self.assertEqual(
            list(Counter.objects.order_by("name").values_list("value", flat=True)), [1, 1, 0]
        )


class RaceTest(TransactionTestCase):
    def test_get_or_create(self) -> None:
        for round_number in range(10):
            name = f"round-{round_number}"
            outcomes = at_once(*[lambda: Counter.objects.get_or_create(name=name)] * 6)  # noqa: B023
            self.assertEqual(sorted(created for _, created in outcomes), [False] * 5 + [True])
            self.assertEqual(len({counter.pk for counter, _ in outcomes}), 1)

    def test_update_or_create(self) -> None:
        def add() -> bool:
            return Counter.objects.update_or_create(
                name="x", defaults={"value": F("value") + 1}, create_defaults={"value": 1}
            )[1]

        created = [outcome for _ in range(5) for outcome in at_once(*[add] * 6)]
        self.assertEqual(sum(created), 1)
        self.assertEqual(Counter.objects.get().value, 30)

    def test_increments_by_expression(self) -> None:
        Counter.objects.create(name="x")

        def add() -> None:
            for _ in range(20):
                Counter.objects.filter(name="x").update(value=F("value") + 1)

        self.assertEqual(at_once(*[add] * 5), [None] * 5)
        self.assertEqual(Counter.objects.get().value, 100)

    def test_one_insert_wins(self) -> None:
        outcomes = at_once(*[lambda: Counter.objects.create(name="only")] * 6)
        lost = [outcome for outcome in outcomes if isinstance(outcome, IntegrityError)]
        self.assertEqual(len(lost), 5, outcomes)
        self.assertEqual(Counter.objects.count(), 1)


class RetryTest(TransactionTestCase):
    """The option ``isolation_level`` with a loop around ``atomic``."""

    def setUp(self) -> None:
        for name in ("a", "b"):
            owner = Customer.objects.create(email=f"{name}@x", full_name=name)
            Account.objects.create(owner=owner, balance=100)

    def tearDown(self) -> None:
        self.use(psycopg.IsolationLevel.READ_COMMITTED)

    def use(self, level: psycopg.IsolationLevel) -> None:
        # The dictionary is every thread's; connections made from now on have the level.
        connection.settings_dict["OPTIONS"]["isolation_level"] = level
        connection.close()

    def transfer(self, source: str, target: str) -> int:
        def move() -> None:
            giver = Account.objects.get(owner__email=source)
            taker = Account.objects.get(owner__email=target)
            giver.balance -= 1
            taker.balance += 1
            giver.save()
            taker.save()

        return sum(with_retry(move) for _ in range(10))

    def check_transfers(self, level: psycopg.IsolationLevel) -> None:
        self.use(level)
        outcomes = at_once(
            *[lambda: self.transfer("a@x", "b@x")] * 2, *[lambda: self.transfer("b@x", "a@x")] * 2
        )
        for attempts in outcomes:
            self.assertIsInstance(attempts, int, outcomes)
        self.assertEqual(
            list(Account.objects.values_list("balance", flat=True)), [Decimal(100)] * 2
        )

    def test_repeatable_read(self) -> None:
        self.check_transfers(psycopg.IsolationLevel.REPEATABLE_READ)

    def test_serializable(self) -> None:
        self.check_transfers(psycopg.IsolationLevel.SERIALIZABLE)

    def test_write_skew_at_serializable(self) -> None:
        """Each takes from its own account while both together have enough, but only once."""
        self.use(psycopg.IsolationLevel.SERIALIZABLE)
        both = threading.Barrier(2)

        def withdraw(email: str) -> str:
            def take() -> None:
                nonlocal has_met
                total = sum(Account.objects.values_list("balance", flat=True))
                if not has_met:
                    has_met = True
                    both.wait(WAIT_SECONDS)
                if total >= 200:
                    Account.objects.filter(owner__email=email).update(balance=0)

            has_met = False
            with_retry(take)
            return "done"

        outcomes = at_once(lambda: withdraw("a@x"), lambda: withdraw("b@x"))
        self.assertEqual(outcomes, ["done", "done"])
        self.assertEqual(sum(Account.objects.values_list("balance", flat=True)), Decimal(100))

    def test_the_level_arrives(self) -> None:
        self.use(psycopg.IsolationLevel.SERIALIZABLE)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            self.assertEqual(cursor.fetchone(), ("serializable",))
