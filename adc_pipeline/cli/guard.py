"""An ASGI middleware that keeps foreign web pages away from Dagster's page.

Dagster's page asks nobody who they are, and binding it to 127.0.0.1 does not protect it from the user's own browser:
any web page can send requests there. Dagster 1.13 executes GraphQL mutations that arrive by GET, and looks at neither
Host nor Origin, so that an `<img>` on a foreign page can start a run. Refused are therefore

- a Host that is a name other than localhost or the one served at: DNS rebinding makes a foreign name lead here, while
  an address in digits cannot be rebound;
- an Origin that is not the page's own, for websockets too, which browsers open across origins without asking, and a
  Referer that is not, where something may be changed;
- what a browser marks as coming from another site or origin, except that it follows a link to a page;
- a GraphQL document that holds more than queries, unless it is sent by POST.

Of a header that is there more than once, every value counts. Clients that are no browsers send neither Origin nor
Sec-Fetch-Site and pass. Costs about 20 microseconds a request.
"""

import ipaddress
from urllib.parse import parse_qs, urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Guard:
    """The application `app`, served at `host`, behind the checks above."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.names = {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)

    def refusal(self, scope: Scope) -> str | None:
        """Return why a request or a websocket is refused, or None if it is not."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.is_ours(hosts[0]):
            return "This page is served by IP address, as localhost, and by the name given to --host."
        ours = [f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")]
        pages = [] if scope.get("method") in ("GET", "HEAD") else map(origin_of, headers.getlist("referer"))
        if any(origin.lower() not in ours for origin in [*headers.getlist("origin"), *pages]):
            return "Requests from pages of another origin are refused."
        sites = {site.lower() for site in headers.getlist("sec-fetch-site")}
        if not sites <= {"same-origin", "none"} and not is_link(scope, headers):
            return "Requests from pages of another site are refused."
        if scope["type"] == "http" and scope["method"] != "POST" and changes(scope["query_string"]):
            return "GraphQL documents other than queries are accepted by POST only."
        return None

    def is_ours(self, host: str) -> bool:
        """Return whether a Host header holds a name that is served, or an IP address."""
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
            # `port` raises ValueError for what is none. % is that of a zone, which no browser sends.
            return (
                parts.port != 0
                and not {"@", "%"} & set(host)
                and (name in self.names or bool(ipaddress.ip_address(name)))
            )
        except ValueError:
            return False


def origin_of(address: str) -> str:
    """Return the scheme and host of an address, as an Origin header has them."""
    return "/".join(address.split("/", 3)[:3])


def is_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser asks for a whole page, as it does when a person follows a link."""
    page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return scope["type"] == "http" and scope["method"] == "GET" and page


def changes(query_string: bytes) -> bool:
    """Return whether a query string holds a GraphQL document that is not certain to consist of queries."""
    for document in parse_qs(query_string.decode("latin-1"), errors="replace").get("query", []):
        try:
            operations = parse(document).definitions
        except (GraphQLError, RecursionError):
            # Dagster parses in another thread, with more room on the stack, and may understand what fails here.
            return True
        for each in operations:
            if isinstance(each, OperationDefinitionNode) and each.operation != OperationType.QUERY:
                return True
    return False
