"""How is an authenticator of the user's own code loaded and asked?

Crossbar.io's `function` type: `create(config, controller)` makes the authenticator, once; the authenticator is called with
(realm, authid, details) for each sign-in and returns a role, or a dict with role, secret and so on. Either may be a
coroutine function; a plain authenticator runs in a thread, for it may ask a database. Whatever it does wrong costs one
sign-in, with the reason in the log, never the router.
"""

import asyncio
import importlib
import inspect
import json

from holdfast.core.wamp.handshake import Answer, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.core.wamp.handshake import Run


class AuthenticatorError(Exception):
    """The user's code cannot be loaded; the message says what to do."""


def load(name: str) -> "Callable[..., Any]":
    """Import `module:function` (or Crossbar.io's `module.function`).

    Raises:
        AuthenticatorError: There is no such thing.
    """
    module, colon, function = name.partition(":")
    if not colon:
        module, _, function = name.rpartition(".")
    if not module or not function:
        raise AuthenticatorError(f'auth create = "{name}": expected "module:function"')
    try:
        made = getattr(importlib.import_module(module), function)
    except AttributeError:
        raise AuthenticatorError(
            f'auth create = "{name}": module {module} has no {function}'
        ) from None
    except Exception as error:
        # Importing runs the user's code, which may raise anything.
        raise AuthenticatorError(
            f'auth create = "{name}": {type(error).__name__}: {error}'
        ) from error
    if not callable(made):
        raise AuthenticatorError(
            f'auth create = "{name}" is a {type(made).__name__}, not a function'
        )
    return made  # type: ignore[no-any-return]


class Functions:
    """The authenticators that were made, by what made them."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}
        self._running: set[asyncio.Task[None]] = set()

    def run(self, step: "Run", then: "Callable[[Answer | Failure], object]") -> None:
        """Ask; `then` is called on this loop, once."""
        task = asyncio.ensure_future(self._run(step, then))
        # The loop itself holds tasks weakly.
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, step: "Run", then: "Callable[[Answer | Failure], object]") -> None:
        outcome: Answer | Failure
        try:
            async with asyncio.timeout(step.timeout_s):
                outcome = Answer(await self._value(step))
        except TimeoutError:
            outcome = Failure(
                "wamp.error.timeout", f"{step.create}: no answer within {step.timeout_s:g} s"
            )
        except AuthenticatorError as error:
            outcome = Failure("wamp.error.runtime_error", str(error))
        except Exception as error:  # noqa: BLE001 -- the user's code; told to the operator by Refuse.cause
            # Autobahn's ApplicationError and ours carry a URI and say what the client may hear.
            uri = getattr(error, "error", None) or getattr(error, "uri", None)
            if isinstance(uri, str):
                outcome = Failure(uri, str(error.args[0]) if error.args else "")
            else:
                outcome = Failure(
                    "wamp.error.runtime_error", f"{step.create}: {type(error).__name__}: {error}"
                )
        then(outcome)

    async def _value(self, step: "Run") -> "Any":
        key = (step.create, json.dumps(step.config, sort_keys=True, default=str))
        authenticator = self._made.get(key)
        if authenticator is None:
            create = load(step.create)
            authenticator = create(*_arguments(create, step.config))
            if inspect.isawaitable(authenticator):
                authenticator = await authenticator
            if not callable(authenticator):
                raise AuthenticatorError(
                    f'auth create = "{step.create}" returned a {type(authenticator).__name__}, not an authenticator'
                )
            self._made[key] = authenticator
        if inspect.iscoroutinefunction(authenticator):
            return await authenticator(*step.args)
        value = await asyncio.to_thread(authenticator, *step.args)
        return await value if inspect.isawaitable(value) else value


def _arguments(create: "Callable[..., Any]", config: "dict[str, Any]") -> "list[Any]":
    """Give what it takes: Crossbar.io's second argument, the controller, does not exist here and is None."""
    try:
        parameters = inspect.signature(create).parameters.values()
    except ValueError:
        return [config, None]
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return [config, None]
    places = [
        one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return [config, None][: len(places)]
