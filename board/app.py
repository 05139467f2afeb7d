"""The Flask app of the page: sign-in, languages, error pages and the headers of every response."""

from __future__ import annotations

import io
import logging
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from flask import Flask, Response, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_babel import Babel, Domain, gettext
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException

from board import access, callbacks, calls, person, show, today, voicemails, workings
from shared.bridge import bridge
from shared.errors import BridgeError, answer_to
from shared.once import once

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

LANGUAGES = ("lv", "en")
_DOMAIN = "messages"
_HERE = Path(__file__).parent
_LANGUAGE = "board_language"
_OPEN = ("static", "sign_in", "enter", "language")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}
_PLATFORM = "/.auth/login/aad?post_login_redirect_uri="


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        return access.needs_https(request.host)

    def get_cookie_path(self, app: Flask) -> str:
        return request.root_path


@once
def app() -> Flask:
    """Return this process's app, made on the first request."""
    return create_app(bridge())


def create_app(bridge: Bridge) -> Flask:
    """Return an app that shows what a bridge has."""
    page = Flask("board", root_path=str(_HERE))
    page.extensions["bridge"] = bridge
    page.secret_key = access.signing_key(bridge.settings) or None
    page.session_interface = _Sessions()
    page.config.update(
        SESSION_COOKIE_NAME="board",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        SESSION_REFRESH_EACH_REQUEST=False,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(days=365),
        MAX_CONTENT_LENGTH=64 * 1024,
    )
    page.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    babel = Babel(page, locale_selector=_language, timezone_selector=lambda: bridge.settings.time_zone.key)
    babel.domain_instance = _domain()
    csrf = CSRFProtect(page)
    page.before_request(_let_in)
    page.after_request(_finish)
    page.register_error_handler(HTTPException, _refuse)
    page.register_error_handler(BridgeError, _report)
    page.register_error_handler(Exception, _fail)
    page.add_url_rule("/sign-in", "sign_in", csrf.exempt(_sign_in), methods=["GET", "POST"])
    page.add_url_rule("/enter/<token>", "enter", _enter)
    page.add_url_rule("/sign-out", "sign_out", _sign_out, methods=["POST"])
    page.add_url_rule("/language/<code>", "language", _switch)
    for part in (today, callbacks, calls, voicemails, workings, person):
        page.register_blueprint(part.blueprint)
    show.add_to(page, bridge.settings.time_zone.key)
    return page


def _domain() -> Domain:
    """Return the texts of the page, read from the catalogues as they were written: nothing is compiled before."""
    domain = Domain(domain=_DOMAIN)
    domain.cache.update({(code, _DOMAIN): _catalogue(code) for code in LANGUAGES})
    return domain


@cache
def _catalogue(code: str) -> Translations:
    path = _HERE / "translations" / f"{code}.po"
    if not path.exists():
        return Translations()
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return Translations(compiled, domain=_DOMAIN)


def _language() -> str:
    chosen = request.cookies.get(_LANGUAGE)
    return chosen if chosen in LANGUAGES else request.accept_languages.best_match(LANGUAGES, "en")


def _switch(code: str) -> AnyResponse:
    answer = redirect(_back(request.args.get("next")))
    if code in LANGUAGES:
        answer.set_cookie(
            _LANGUAGE, code, max_age=365 * 24 * 3600, path=request.root_path, samesite="Lax", httponly=True,
            secure=access.needs_https(request.host),
        )  # fmt: skip
    return answer


def _back(address: str | None) -> str:
    """Return an address of this page to go on at: the one that was asked for, where it is one."""
    parts = urlsplit((address or "").replace("\\", "/"))
    inside = not parts.scheme and not parts.netloc and parts.path.startswith(f"{request.root_path}/")
    return parts.geturl() if inside else url_for("today.index")


def _let_in() -> AnyResponse | tuple[str, int] | None:
    """Send everybody who is not signed in to the sign-in."""
    settings = show.here().settings
    if settings.board_sign_in == "none":
        return _page("message.html", HTTPStatus.NOT_FOUND, title=gettext("Not found"), text="")
    g.who = access.principal(settings, request.headers.get(access.PRINCIPAL)) or (
        session.get("who", "") if settings.board_sign_in == "key" and settings.board_key else ""
    )
    if g.who or request.endpoint in _OPEN:
        return None
    wanted = request.full_path.removesuffix("?") if request.method in ("GET", "HEAD") else "/"
    wanted = request.root_path + wanted
    if settings.board_sign_in == "entra":
        return redirect(_PLATFORM + url_for("today.index"))
    return redirect(url_for("sign_in", next=wanted))


def _sign_in() -> AnyResponse | tuple[str, int]:
    """Ask for the key; the form is as safe from other pages as the key is unknown to them."""
    here, key, wrong = show.here(), show.here().settings.board_key, False
    if here.settings.board_sign_in != "key":
        return redirect(url_for("today.index"))
    if request.method == "POST" and key:
        if access.is_right(here.storage, "board", request.form.get("key", ""), key):
            return _welcome(request.form.get("next"))
        wrong = True
    status = HTTPStatus.FORBIDDEN if wrong or (not key and request.method == "POST") else HTTPStatus.OK
    return _page("sign_in.html", status, wrong=wrong, missing=not key, next=request.values.get("next", ""))


def _enter(token: str) -> AnyResponse | tuple[str, int]:
    here = show.here()
    if here.settings.board_sign_in != "key" or not here.settings.board_key:
        return redirect(url_for("today.index"))
    # A program that only looks at an address must not use it up.
    if request.method == "GET" and access.enter(here.storage, here.settings, token):
        return _welcome(None)
    return _page("sign_in.html", HTTPStatus.FORBIDDEN, used=True, wrong=False, missing=False, next="")


def _welcome(address: str | None) -> AnyResponse:
    session.clear()
    session["who"] = "key"
    session.permanent = True
    return redirect(_back(address), HTTPStatus.SEE_OTHER)


def _sign_out() -> AnyResponse:
    session.clear()
    if show.here().settings.board_sign_in == "entra":
        return redirect("/.auth/logout")
    return redirect(url_for("sign_in"), HTTPStatus.SEE_OTHER)


def _finish(response: Response) -> Response:
    response.headers.extend(_HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _page(template: str, status: int, **values: Any) -> tuple[str, int]:
    return render_template(template, **values), int(status)


def _refuse(error: HTTPException) -> AnyResponse | tuple[str, int]:
    if error.code in (301, 302, 303, 307, 308):
        return error.get_response()
    texts = {
        404: gettext("There is nothing at this address."),
        405: gettext("This address does not take that."),
        413: gettext("That is too long."),
    }
    text = texts.get(error.code or 0, error.description or "")
    if isinstance(error, CSRFError):
        text = gettext("This form is too old, or came from elsewhere. Open the page again and repeat.")
    return _page("message.html", error.code or HTTPStatus.BAD_REQUEST, title=gettext("That did not work"), text=text)


def _report(error: BridgeError) -> AnyResponse | tuple[str, int]:
    """Say what a refusal of the app means, as its HTTP API does."""
    if isinstance(error, access.TooManyTries):
        status, text = HTTPStatus.TOO_MANY_REQUESTS, gettext("Ten wrong keys came within a minute. Wait a minute.")
    else:
        row = answer_to(error)
        status, text = HTTPStatus(row.status), show.reason(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", type(error).__name__, exc_info=error)
    answer = Response(render_template("message.html", title=gettext("That did not work"), text=text), status)
    seconds = getattr(error, "retry_after", None)
    if seconds is not None:
        answer.headers["Retry-After"] = str(seconds)
    return answer


def _fail(error: Exception) -> tuple[str, int]:
    logger.error("the page failed", exc_info=error)
    text = gettext("Something went wrong here. The app's log has the details.")
    return _page("message.html", HTTPStatus.INTERNAL_SERVER_ERROR, title=gettext("That did not work"), text=text)
