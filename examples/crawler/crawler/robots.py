"""May we, and how fast? What a site says in its robots.txt (RFC 9309), read by an established parser.

The text is kept with the results for a day, so that all processes know it and a restart asks nothing. A site that says "there is none"
(4xx) allows everything; one that cannot say (5xx, no answer) has said nothing yet, and nothing is fetched until it has.
"""

import time
from functools import lru_cache

from protego import Protego

from crawler import fetching, rules
from crawler.results import Results

KEPT_S = 86_400.0
#: RFC 9309, 2.5: at least so much has to be read.
MOST_BYTES = 512 * 1024
#: RFC 9309, 2.3.1.2: so many redirects have to be followed.
MOST_MOVES = 5


def known(results: Results, site: str) -> Protego:
    """Return the rules of a site, asking it when we have none, or old ones.

    Raises:
        UnreachableError: It could not say. Nothing of it may be fetched now.
    """
    kept = results.robots(site)
    # 0: the site is known, its rules are not yet. A clock that was set back makes them old, too.
    if kept is None or not 0 <= time.time() - kept[1] < KEPT_S:
        results.keep_robots(site, ask(site))
        kept = results.robots(site) or ("", 0.0)
    return _parsed(kept[0])


def allows(results: Results, url: str) -> bool:
    """Tell whether we may fetch this page."""
    return bool(known(results, rules.origin(url)).can_fetch(url, fetching.ROBOT))


def delay_s(results: Results, site: str) -> float:
    """Return the seconds that have to lie between two requests, 0 where the site does not care.

    It is asked for each time that jobs are pushed, so it never goes to the network: what is not known says nothing.
    """
    kept = results.robots(site)
    says = _parsed(kept[0]) if kept is not None else None
    return float((says and says.crawl_delay(fetching.ROBOT)) or 0.0)


def ask(site: str) -> str:
    """Fetch the robots.txt of a site; a text that allows everything, if it has none."""
    url = f"{site}/robots.txt"
    for _ in range(MOST_MOVES + 1):
        answer = fetching.get(url, MOST_BYTES, anything=True)
        if 300 <= answer.status < 400:
            moved = rules.normal(answer.location, url)
            if moved is None:
                return ""
            url = moved
        elif answer.status == 200:
            return answer.body.decode("utf-8", "replace")
        elif rules.must_try_again(answer.status):
            raise fetching.UnreachableError(f"{url} answers {answer.status}: it cannot say what it allows")  # fmt: skip
        else:
            return ""
    return ""


@lru_cache(maxsize=64)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)
