"""Send a message to a webhook and by e-mail.

Addresses and the password come from environment variables, whose names are settings: no file and no message holds
them. The webhook gets `{"text": ...}`, which Slack, Mattermost, Rocket.Chat and Google Chat understand.
"""

import ipaddress
import os
import smtplib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.terminal import printable

# Without an answer to what was sent last, and for a whole message.
SECONDS, SECONDS_IN_ALL = 20.0, 25.0


@dataclass(frozen=True)
class Receivers:
    """Where messages go; all but the mail addresses are names of environment variables."""

    webhook: str = ""
    mail_to: tuple[str, ...] = ()
    mail_from: str = ""
    mail_server: str = ""
    mail_password: str = ""

    def __bool__(self) -> bool:
        return bool(self.webhook or self.mail_to)

    def send(self, subject: str, text: str) -> None:
        """Send a message to every receiver; raise PipelineError that names those that did not get it."""
        failed = []
        for wanted, how in ((self.webhook, self.post), (self.mail_to, self.mail)):
            try:
                if wanted:
                    within(SECONDS_IN_ALL, how, printable(subject, kept=""), printable(text))
            except PipelineError as error:
                failed.append(str(error))
        if failed:
            raise PipelineError(" ".join(failed))

    def post(self, subject: str, text: str) -> None:
        """Post to the webhook."""
        import requests

        try:
            address, content = content_of("webhook", self.webhook), {"text": f"{subject}\n{text}"}
            # `stream`: what a receiver answers is not read, however much it is.
            with requests.post(address, json=content, timeout=SECONDS, allow_redirects=False, stream=True) as answer:
                status = answer.status_code
        # The error itself may show the address, which is a secret.
        except (requests.RequestException, ValueError) as error:
            raise PipelineError(
                f"The webhook in {self.webhook} cannot be reached ({type(error).__name__}): check the variable."
            ) from None
        if not 200 <= status < 300:
            raise PipelineError(f"The webhook in {self.webhook} answered {status}: check the variable.")

    def mail(self, subject: str, text: str) -> None:
        """Send an e-mail; TLS is used where the server offers it, and required for a password."""
        address = urlsplit(content_of("mail_server", self.mail_server))
        password = content_of("mail_password", self.mail_password) if self.mail_password else ""
        try:
            host, port, user = address.hostname or "", address.port, unquote(address.username or "")
            if address.scheme not in ("smtp", "smtps") or not host:
                raise ValueError
            message = EmailMessage()
            message["Subject"], message["To"] = subject, ", ".join(self.mail_to)
            message["From"] = self.mail_from or (user if "@" in user else f"adc@{host}")
            message.set_content(text)
            context = ssl.create_default_context()
            direct = address.scheme == "smtps"
            with (
                smtplib.SMTP_SSL(host, port or 465, timeout=SECONDS, context=context)
                if direct
                else smtplib.SMTP(host, port or 587, timeout=SECONDS)
            ) as server:
                server.ehlo_or_helo_if_needed()
                encrypted = direct
                if not direct and server.has_extn("starttls"):
                    server.starttls(context=context)
                    encrypted = True
                if password:
                    if not encrypted and not is_loopback(host):
                        raise PipelineError(
                            f"The mail server in {self.mail_server} offers no TLS, without which no password is sent:"
                            " use another server, or one that needs no password."
                        )
                    server.login(user, password)
                server.send_message(message)
        except smtplib.SMTPException as error:
            raise PipelineError(
                f"The mail server in {self.mail_server} refused the message ({type(error).__name__}): check the"
                f" addresses, the user and {self.mail_password or 'the variable of the password'}."
            ) from None
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"The mail server in {self.mail_server} cannot be reached ({type(error).__name__}): write"
                " smtp://user@host:587 or smtps://user@host into the variable."
            ) from None


def within(seconds: float, send: Callable[[str, str], None], subject: str, text: str) -> None:
    """Send a message; raise PipelineError if the receiver takes longer than some seconds, or as `send` does.

    The timeout of a library starts again with each byte, and a receiver may send one at a time.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            send(subject, text)
        except Exception as error:
            raised.append(error)

    # Not waited for when the process ends.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise PipelineError(
            f"A receiver of automation.yaml has not taken the message within {seconds:g} s: check its address in the"
            " variable, and the receiver."
        )
    if raised:
        raise raised[0]


def content_of(setting: str, variable: str) -> str:
    """Return the content of the environment variable in a setting; PipelineError if the variable is empty or not set.

    What is no variable may be the secret itself, so it is not shown.
    """
    if content := os.environ.get(variable, "").strip():
        return content
    raise PipelineError(
        f"The environment variable that `{setting}` of automation.yaml names is not set: set it for the code server."
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
