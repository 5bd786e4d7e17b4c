"""Many clients at once on the same rows: money stays, a key has one owner, no child is an orphan.

Each test takes a seed for the clients' choices; what overlaps is up to the moment. With the marker
``slow`` there are more seeds.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.e2e.node_process import NodeProcess
from tests.serializability.checker import LEVELS, Level

pytestmark = pytest.mark.timeout(120)
SEEDS = [
    *(1, 2),
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 21)),
]
CLIENTS = 8
ACCOUNTS = 5
BALANCE = 100
TRANSFERS = 25
ROUNDS = 15
RETRY = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


@contextlib.asynccontextmanager
async def clients(node: NodeProcess, level: Level) -> AsyncIterator[list[asyncpg.Connection]]:
    """Connect some clients whose transactions have this level."""
    connections = [
        await asyncpg.connect(
            host=node.host,
            port=node.port,
            user="nodedb",
            database="nodedb",
            ssl=False,
            server_settings={"default_transaction_isolation": level},
        )
        for _ in range(CLIENTS)
    ]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.terminate()


async def dawdle(connection: asyncpg.Connection, chance: random.Random) -> None:
    """Let others go on for none or some round trips."""
    for _ in range(chance.randrange(3)):
        await connection.fetchval("SELECT 1")


# Bank


async def transfer(connection: asyncpg.Connection, chance: random.Random, level: Level) -> None:
    """Move money between two accounts, until it works.

    The client computes the balances; at READ COMMITTED it locks the rows it read, in any order.
    """
    lock = " FOR UPDATE" if level == "read committed" else ""
    source, target = chance.sample(range(ACCOUNTS), 2)
    amount = chance.randrange(1, 20)
    while True:
        with contextlib.suppress(*RETRY):
            async with connection.transaction():
                balances = [
                    await connection.fetchval(
                        f"SELECT balance FROM accounts WHERE id = $1{lock}", account
                    )
                    for account in (source, target)
                ]
                await dawdle(connection, chance)
                changed = [balances[0] - amount, balances[1] + amount]
                for account, balance in zip((source, target), changed, strict=True):
                    await connection.execute(
                        "UPDATE accounts SET balance = $2 WHERE id = $1", account, balance
                    )
            return


async def audit(connection: asyncpg.Connection, level: Level) -> int:
    """Return the sum of all accounts: in one statement, or from one to the next."""
    if level == "read committed":
        total: int = await connection.fetchval("SELECT sum(balance) FROM accounts")
        return total
    while True:
        with contextlib.suppress(*RETRY):
            async with connection.transaction():
                total = 0
                for account in range(ACCOUNTS):
                    total += await connection.fetchval(
                        "SELECT balance FROM accounts WHERE id = $1", account
                    )
            return total


async def run_bank(node: NodeProcess, level: Level, seed: int) -> list[int]:
    """Run transfers and audits; returns the sums that were seen, the last one at the end."""
    sums: list[int] = []

    async def work(number: int, connection: asyncpg.Connection) -> None:
        chance = random.Random(f"{seed} {number}")
        for _ in range(TRANSFERS):
            if chance.random() < 0.7:
                await transfer(connection, chance, level)
            else:
                sums.append(await audit(connection, level))

    async with clients(node, level) as connections:
        await connections[0].execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
        await connections[0].execute(
            f"INSERT INTO accounts SELECT g, {BALANCE} FROM generate_series(0, {ACCOUNTS - 1}) g"
        )
        await asyncio.gather(*[work(n, one) for n, one in enumerate(connections)])
        sums.append(await audit(connections[0], level))
    return sums


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_money_neither_comes_nor_goes(node: NodeProcess, level: Level, seed: int) -> None:
    sums = asyncio.run(run_bank(node, level, seed))
    assert len(sums) > CLIENTS
    assert set(sums) == {ACCOUNTS * BALANCE}, f"seed {seed}"


# One owner of a key

CLAIMS = {
    "primary key": "CREATE TABLE claims (name int PRIMARY KEY, owner int)",
    "unique column": "CREATE TABLE claims (id serial PRIMARY KEY, name int UNIQUE, owner int)",
    "no primary key": "CREATE TABLE claims (name int UNIQUE, owner int)",
}


async def claim(
    connection: asyncpg.Connection, chance: random.Random, name: int, owner: int
) -> str:
    """Try to own a name: returns "won", "lost", or "gave up" where the client rolled back."""
    gives_up = chance.random() < 0.2
    conflict = " ON CONFLICT DO NOTHING" if chance.random() < 0.3 else ""
    try:
        await connection.execute("BEGIN")
        await dawdle(connection, chance)
        tag = await connection.execute(
            f"INSERT INTO claims (name, owner) VALUES ({name}, {owner}){conflict}"
        )
        await dawdle(connection, chance)
        if gives_up:
            await connection.execute("ROLLBACK")
            return "gave up"
        await connection.execute("COMMIT")
    except (asyncpg.UniqueViolationError, asyncpg.SerializationError) as error:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        return f"lost by {error.sqlstate}"
    return "won" if tag == "INSERT 0 1" else "lost"


async def run_claims(node: NodeProcess, level: Level, seed: int) -> Counter[str]:
    """Let all clients claim the same names; returns how their attempts ended."""
    ends: Counter[str] = Counter()
    chances = [random.Random(f"{seed} {number}") for number in range(CLIENTS)]
    async with clients(node, level) as connections:
        for kind, statement in CLAIMS.items():
            await connections[0].execute("DROP TABLE IF EXISTS claims")
            await connections[0].execute(statement)
            owners: dict[int, int] = {}
            for name in range(ROUNDS):
                results = await asyncio.gather(
                    *[
                        claim(connection, chance, name, owner)
                        for owner, (connection, chance) in enumerate(
                            zip(connections, chances, strict=True)
                        )
                    ]
                )
                ends.update(results)
                winners = [owner for owner, end in enumerate(results) if end == "won"]
                if any(end.startswith("lost") for end in results) or winners:
                    assert len(winners) == 1, f"{kind}, seed {seed}, name {name}: {results}"
                    owners[name] = winners[0]
            rows = await connections[0].fetch("SELECT name, owner FROM claims")
            assert sorted(map(tuple, rows)) == sorted(owners.items()), f"{kind}, seed {seed}"
    return ends


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_unique_key_has_one_owner(node: NodeProcess, level: Level, seed: int) -> None:
    ends = asyncio.run(run_claims(node, level, seed))
    assert ends["won"] > ROUNDS, f"seed {seed}: {ends}"
    assert ends["lost by 23505"] > ROUNDS, f"seed {seed}: {ends}"
    if level == "read committed":
        assert not ends["lost by 40001"], f"seed {seed}: {ends}"


# No child without a parent


async def adopt_or_delete(
    connection: asyncpg.Connection, chance: random.Random, parent: int, child: int
) -> str:
    """Insert a child of the parent, or delete the parent: returns what was done, or the error."""
    deletes = chance.random() < 0.4
    try:
        await connection.execute("BEGIN")
        await dawdle(connection, chance)
        if deletes:
            tag = await connection.execute(f"DELETE FROM parents WHERE id = {parent}")
        else:
            tag = await connection.execute(f"INSERT INTO children VALUES ({child}, {parent})")
        await dawdle(connection, chance)
        await connection.execute("COMMIT")
    except (*RETRY, asyncpg.ForeignKeyViolationError) as error:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        return str(error.sqlstate)
    return str(tag)


async def run_families(node: NodeProcess, level: Level, seed: int) -> Counter[str]:
    """Let clients fight over parents; returns how their attempts ended."""
    ends: Counter[str] = Counter()
    chances = [random.Random(f"{seed} {number}") for number in range(CLIENTS)]
    async with clients(node, level) as connections:
        first = connections[0]
        await first.execute("CREATE TABLE parents (id int PRIMARY KEY)")
        await first.execute(
            "CREATE TABLE children (id int PRIMARY KEY, parent int NOT NULL REFERENCES parents)"
        )
        children: dict[int, int] = {}
        for parent in range(ROUNDS * 2):
            await first.execute(f"INSERT INTO parents VALUES ({parent})")
            numbers = [parent * CLIENTS + number for number in range(CLIENTS)]
            results = await asyncio.gather(
                *[
                    adopt_or_delete(connection, chance, parent, child)
                    for connection, chance, child in zip(connections, chances, numbers, strict=True)
                ]
            )
            ends.update(results)
            born = [n for n, end in zip(numbers, results, strict=True) if end == "INSERT 0 1"]
            children.update(dict.fromkeys(born, parent))
            assert not born or "DELETE 1" not in results, f"seed {seed}, parent {parent}"
            assert results.count("DELETE 1") <= 1, f"seed {seed}, parent {parent}"
        rows = await first.fetch("SELECT id, parent FROM children")
        assert dict(map(tuple, rows)) == children, f"seed {seed}"
        orphans = await first.fetchval(
            "SELECT count(*) FROM children c LEFT JOIN parents p ON p.id = c.parent"
            " WHERE p.id IS NULL"
        )
        assert orphans == 0, f"seed {seed}"
    return ends


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_child_is_an_orphan(node: NodeProcess, level: Level, seed: int) -> None:
    ends = asyncio.run(run_families(node, level, seed))
    assert ends["INSERT 0 1"] > 0, f"seed {seed}: {ends}"
    assert ends["DELETE 1"] > 0, f"seed {seed}: {ends}"
    assert ends["23503"] > 0, f"seed {seed}: {ends}"
