"""Records what PostgreSQL 15 does with the isolation scripts, into ``recorded/``.

Starts a server of its own. Each script runs twice, by simple and by extended queries: PostgreSQL
must say the same, or the recording would not be worth much. Usage: ``python
tests/isolation/record.py [name ...]``; with ``--dsn=... [name ...]`` the transcripts of that server
are printed instead, and nothing is recorded.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)

from tests.isolation.postgresql import running_postgresql  # noqa: E402
from tests.isolation.runner import Runner  # noqa: E402
from tests.isolation.script import RECORDED, Script, all_scripts  # noqa: E402
from tests.isolation.transcripts import path_of, render, run_script  # noqa: E402


def _record(scripts: list[Script]) -> None:
    with running_postgresql() as dsn:
        simple, extended = Runner(dsn), Runner(dsn, "extended")
        for script in scripts:
            transcripts = run_script(simple, script)
            again = run_script(extended, script)
            differing = [title for title in transcripts if transcripts[title] != again[title]]
            assert not differing, f"{script.name}: protocols differ: {differing}"
            path_of(script).write_text(render(transcripts), encoding="utf-8")
            print(f"{script.name}: {len(transcripts)} cases")
        simple.close()
        extended.close()


def _remove_stale() -> None:
    kept = {path_of(script) for script in all_scripts()}
    for path in RECORDED.glob("*.txt"):
        if path not in kept:
            path.unlink()


def main(arguments: list[str]) -> None:
    """Record all scripts, or those named."""
    dsns = [a.removeprefix("--dsn=") for a in arguments if a.startswith("--dsn=")]
    names = [a for a in arguments if not a.startswith("--")]
    scripts = [s for s in all_scripts() if not names or s.name.startswith(tuple(names))]
    if not dsns:
        _record(scripts)
        _remove_stale()
        return
    runner = Runner(dsns[0])
    for script in scripts:
        print(f"# {script.name}\n{render(run_script(runner, script))}")
    runner.close()


if __name__ == "__main__":
    main(sys.argv[1:])
