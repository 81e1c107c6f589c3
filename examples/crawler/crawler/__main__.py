# ruff: noqa: T201 -- it talks to whoever runs it
"""What did the crawl find? `python -m crawler` tells, while it goes on as well as afterwards."""

from crawler import results, rules

#: Lines of each list.
MOST = 20


def main() -> None:
    """Print what is in the results."""
    kept = results.opened()
    if not kept.path.exists():
        raise SystemExit(f"{kept.path}: no crawl yet\n  begin one: holdfast jobs push crawler.tasks.crawl http://127.0.0.1:8090/")  # fmt: skip
    states = kept.states()
    print(f"{sum(states.values())} pages: " + ", ".join(f"{n} {state}" for state, n in states.items()))  # fmt: skip
    ((links, words, size),) = kept.rows(
        "SELECT (SELECT count(*) FROM links), coalesce(sum(words), 0), coalesce(sum(size), 0) FROM pages WHERE state = ?", rules.DONE
    )  # fmt: skip
    print(f"{links} links, {words} words, {size / 1e6:.1f} MB of HTML\n")
    # What a site's owner wants to know of a crawler: which page has a link that leads nowhere?
    broken = kept.rows(
        "SELECT target, state, coalesce(says, status), min(source), count(*) FROM pages JOIN links ON target = url"
        " WHERE state IN (?, ?) GROUP BY target ORDER BY count(*) DESC LIMIT ?",
        rules.MISSING, rules.FAILED, MOST,
    )  # fmt: skip
    for target, state, why, source, count in broken:
        more = f" and {count - 1} more" if count > 1 else ""
        print(f"{state}  {rules.path(target)}  ({why})  on {rules.path(source)}{more}")
    cut = kept.rows("SELECT url, size FROM pages WHERE is_cut LIMIT ?", MOST)
    for url, bytes_ in cut:
        print(f"cut off  {rules.path(url)}  ({bytes_ / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
