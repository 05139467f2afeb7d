"""The Flask app of the page: sign-in, languages, error pages and the headers of every response."""

from __future__ import annotations

import io
import logging
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from flask import Flask, Response, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_babel import Babel, Domain, gettext
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException

from board import access, callbacks, calls, person, show, today, workings
from shared.bridge import Bridge
from shared.errors import BridgeError, Refused, answer_to

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

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
_PRINCIPAL = "X-MS-CLIENT-PRINCIPAL-NAME"


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        return access.needs_https(request.host)

    def get_cookie_path(self, app: Flask) -> str:
        return request.root_path


def create_app(bridge: Bridge) -> Flask:
    """Return the page's app on a bridge."""
    page = Flask("board", root_path=str(_HERE))
    page.extensions["bridge"] = bridge
    page.secret_key = access.signing_key(bridge.settings) or None
    page.session_interface = _Sessions()
    page.config.update(
        SESSION_COOKIE_NAME="board",
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
    page.register_error_handler(Exception, _fail)
    page.add_url_rule("/sign-in", "sign_in", csrf.exempt(_sign_in), methods=["GET", "POST"])
    page.add_url_rule("/enter/<token>", "enter", _enter)
    page.add_url_rule("/sign-out", "sign_out", _sign_out, methods=["POST"])
    page.add_url_rule("/language/<code>", "language", _switch)
    for blueprint in (calls.voicemails, *(part.blueprint for part in (today, callbacks, calls, workings, person))):
        page.register_blueprint(blueprint)
    show.add_to(page, bridge.settings.time_zone.key)
    return page


@cache
def _domain() -> Domain:
    """Return the texts of the page, compiled in memory from the catalogue's source."""
    domain, compiled = Domain(domain=_DOMAIN), io.BytesIO()
    with (_HERE / "translations" / "lv.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale="lv"))
    compiled.seek(0)
    domain.cache = {("lv", _DOMAIN): Translations(compiled, domain=_DOMAIN), ("en", _DOMAIN): Translations()}
    return domain


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
    """Return the address if it is below this page, else the address of the first page."""
    parts = urlsplit((address or "").replace("\\", "/"))
    inside = not parts.scheme and not parts.netloc and parts.path.startswith(f"{request.root_path}/")
    return parts.geturl() if inside else url_for("today.index")


def _let_in() -> AnyResponse | tuple[str, int] | None:
    """Redirect to the sign-in unless somebody is signed in."""
    settings = show.here().settings
    if settings.board_sign_in == "none":
        return render_template("message.html", title=gettext("Not found"), text=""), 404
    by_key = session.get("who", "") if settings.board_key else ""
    g.who = request.headers.get(_PRINCIPAL, "") if settings.board_sign_in == "entra" else by_key
    if request.endpoint in ("sign_in", "enter") and settings.board_sign_in != "key":
        return redirect(url_for("today.index"))
    if g.who or request.endpoint in _OPEN:
        return None
    if settings.board_sign_in == "entra":
        return redirect(_PLATFORM + url_for("today.index"))
    wanted = request.full_path.removesuffix("?") if request.method in ("GET", "HEAD") else "/"
    return redirect(url_for("sign_in", next=request.root_path + wanted))


def _sign_in() -> AnyResponse | tuple[str, int]:
    """Ask for the key. The form needs no CSRF token, since another page does not know the key."""
    here, key, problem = show.here(), show.here().settings.board_key, ""
    if request.method == "POST":
        if key and access.is_right(here.storage, "board", request.form.get("key", ""), key):
            return _welcome(request.form.get("next"))
        problem = "wrong"
    return _ask_for_key(problem)


def _enter(token: str) -> AnyResponse | tuple[str, int]:
    here = show.here()
    # A HEAD request, as link previews send it, must not use up the address.
    if request.method == "GET" and access.enter(here.storage, here.settings, token):
        return _welcome(None)
    return _ask_for_key("used")


def _ask_for_key(problem: str) -> tuple[str, int]:
    shown = problem if show.here().settings.board_key else "missing"
    return render_template("sign_in.html", problem=shown, next=request.values.get("next", "")), 403 if problem else 200


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


def _fail(error: Exception) -> AnyResponse:
    """Return a page with the reason of an error and the next step."""
    if isinstance(error, HTTPException) and (error.code or 0) < HTTPStatus.BAD_REQUEST:
        return error.get_response()
    status, text = 500, gettext("Something went wrong here. The app's log has the details.")
    if isinstance(error, CSRFError):
        status, text = 400, gettext("This form is too old, or is from another page. Open the page again and repeat.")
    elif isinstance(error, HTTPException):
        texts = {
            404: gettext("There is nothing at this address."),
            405: gettext("This address does not accept that method."),
            413: gettext("That is too long."),
        }
        status = error.code or 500
        text = texts.get(status, error.description or "")
    elif isinstance(error, Refused) and error.answer is access.TOO_MANY_TRIES:
        status, text = 429, gettext("Ten wrong keys arrived within a minute. Wait a minute.")
    elif isinstance(error, BridgeError):
        status, text = answer_to(error).status, show.reason(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("the page failed: %s", type(error).__name__, exc_info=error)
    answer = Response(render_template("message.html", title=gettext("That did not work"), text=text), status)
    if (seconds := getattr(error, "retry_after", None)) is not None:
        answer.headers["Retry-After"] = str(seconds)
    return answer
