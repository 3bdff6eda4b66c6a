"""SQL by execution: a query is right when it finds what gold finds, in the row's database and in random ones.

Columns of the row: `schema`, a script that makes the tables and may fill them; `answer`, the gold query. Of an answer
the last block of code counts, else what begins with SELECT, WITH or VALUES. Random databases obey the schema's
constraints and hold values near the queries' constants; they say nothing where gold's rows hang on the order of tables.
"""

import contextlib
import hashlib
import random
import re
import sqlite3
from collections import Counter
from itertools import islice

STEPS, MOST_ROWS, MOST_BYTES = 1_000_000, 5_000, 1_000_000  # of a query, of its result, of a value
N_DATABASES, SIZES = 80, (6, 12, 24)  # random ones; rows of a table
READ, CALL, MAY = 20, 31, (20, 21, 31, 33)  # SQLite's codes: read, select, call, recur
FAULTS = (sqlite3.Error, sqlite3.Warning, ValueError)
BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.S)
BARE = re.compile(r"(?ims)^[ \t]*(?:SQL:\s*)?((?:SELECT|WITH|VALUES)\b.*?)(?:\n\s*\n|\Z)")
CONSTANT = re.compile(r"'((?:[^']|'')*)'|\"([^\"]*)\"|\b(\d+(?:\.\d+)?)\b")


def verify(answer, row):
    query, gold = query_of(answer), row["answer"]
    if not query:
        return False, "no query"
    try:
        results(given := opened(row["schema"]), gold)
    except FAULTS as error:
        return None, f"the row's schema or gold query fails: {error}"
    n_telling = 0
    for place, database in enumerate(databases(given, f"{gold} {query}")):
        try:
            found = results(database, query)
        except FAULTS as error:
            return False, f"the query fails: {error}"
        with contextlib.suppress(*FAULTS):
            wanted = results(database, gold)
            is_clear = Counter(wanted[0]) == Counter(wanted[1])
            if not sorts(gold) or wanted[0] != wanted[1]:
                wanted, found = list(map(Counter, wanted)), list(map(Counter, found))
            if is_clear and wanted != found:
                return False, f"not gold's rows in {'a random' if place else 'its own'} database"
            n_telling += is_clear and bool(wanted[0])
    return (True, "the rows of gold") if n_telling else (None, "gold finds nothing anywhere")


def key(answer, row):
    """Queries that find the same rows vote together; those that fail have no vote."""
    with contextlib.suppress(*FAULTS):
        some = islice(databases(opened(row["schema"]), row["answer"]), 8)
        found = [results(database, query_of(answer))[0] for database in some]
        return f"{str(found[0])[:80]} {hashlib.sha256(str(found).encode()).hexdigest()[:12]}"


def query_of(answer):
    found = BLOCK.findall(answer)[-1:] or BARE.findall(answer)[:1]
    return found[0].strip().rstrip(";") if found else ""


def sorts(query):
    """Whether a query ends in an ORDER BY of its own: behind it no bracket is closed that it has not opened."""
    code = re.sub(r"(?s)'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", " ", query)
    ends = [code[order.end() :] for order in re.finditer(r"(?i)\border\s+by\b", code)]
    return any(end.count("(") == end.count(")") for end in ends)


def results(database, query):
    """The rows of a query that may only read, with unsorted tables read forwards and backwards."""
    found = []
    for backwards in (0, 1):
        database.set_authorizer(None)
        database.execute(f"PRAGMA reverse_unordered_selects = {backwards}")
        database.set_authorizer(allow)
        rows = database.execute(query).fetchmany(MOST_ROWS + 1)
        if len(rows) > MOST_ROWS:
            raise ValueError(f"more than {MOST_ROWS} rows")
        found.append([tuple(map(plain, row)) for row in rows])
    database.set_authorizer(None)
    return found


def allow(action, table, function, *_):
    is_hidden = action == READ and table.startswith(("sqlite_", "pragma_"))
    is_refused = is_hidden or (action == CALL and function.startswith(("random", "load_")))
    return sqlite3.SQLITE_OK if action in MAY and not is_refused else sqlite3.SQLITE_DENY


def plain(value):
    return float(f"{value:.12g}") if isinstance(value, float) else value


def opened(schema):
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    database.set_progress_handler(lambda: 1, STEPS)
    database.executescript(schema)
    return database


def databases(given, queries):
    """The row's own database, then random ones for these queries, the same at every call."""
    names = given.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name: given.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names}
    yield given
    for number in range(N_DATABASES):
        chance, database = random.Random(f"{number} {queries}"), opened("")
        given.backup(database)
        for name in tables:
            database.execute(f'DELETE FROM "{name}"')
        database.execute("PRAGMA foreign_keys = ON")
        values = near(queries, chance)
        for name in [*tables] * 2:  # rows that need a parent come in only after it
            fill(database, name, tables[name], values, chance)
        yield database


def near(queries, chance):
    """Values for columns: the constants of queries, then others about them; each part shuffled."""
    exact, others = [], [0, 1, 2, 3, *(chance.randrange(1000) for _ in range(30))]
    others += [f"{value:o}" for value in others]
    for quoted, name, number in CONSTANT.findall(queries):
        word, value = (quoted or name).strip("%_"), float(number or 0)
        exact.append(value if number else word)
        others += [f"x{word}", f"{word}x", word.swapcase(), word[:-1] + chance.choice("0129")]
        others += [value - 1, value + 0.5, value + 1]
    return [*dict.fromkeys(chance.sample(exact, len(exact)) + chance.sample(others, len(others)))]


def fill(database, table, given, values, chance):
    """Put rows into a table as far as its constraints let them in: made-up ones, and changed ones of its own."""
    parents, pools = {}, []
    for _, _, other, own, to, *_ in database.execute(f'PRAGMA foreign_key_list("{table}")'):
        column = f'"{to}"' if to else "rowid"
        parents[own] = [key for (key,) in database.execute(f'SELECT {column} FROM "{other}"')]
    for _, name, kind, is_needed, _, is_key in database.execute(f'PRAGMA table_info("{table}")'):
        is_text = re.search("CHAR|CLOB|TEXT|DATE|TIME", kind, re.I) is not None
        pool = [value for value in values if isinstance(value, str) == is_text]
        pool = list(map(int, pool)) if "INT" in kind.upper() else pool
        pool = parents.get(name, pool)[: None if is_key else chance.choice((2, 3, 6, 1000))]
        pools.append(pool if pool and (is_needed or is_key) else [*pool, None])
    n_rows = chance.choice(SIZES)
    for row in zip(*[chance.choices(pool, k=n_rows) for pool in pools]):
        if given and chance.random() < 0.5:
            row = [chance.choice((old, old, new)) for old, new in zip(chance.choice(given), row)]
        marks = ", ".join("?" * len(row))
        with contextlib.suppress(sqlite3.IntegrityError):
            database.execute(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', row)
