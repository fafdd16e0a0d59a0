"""`send_mail`: a tool that asks a person before it acts. It is here to be tried: this server sends no mail, and says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from tidelog import Answer, Tidelog, ToolEnded, ToolInput, ToolStarted
from tidelog.apps.tools import Call

Lang = Literal["en", "zh"]

NAME: Final = "send_mail"
_PROMPT: Final[dict[Lang, str]] = {"en": "Send this mail to {to}?", "zh": "要把这封邮件发给 {to} 吗？"}
_OPTIONS: Final[dict[Lang, tuple[str, str]]] = {"en": ("send", "do not send"), "zh": ("发送", "不发送")}
"""The first one agrees."""
_AGREED: Final[dict[Lang, str]] = {
    "en": "You agreed: now the mail to {to} would leave. No mail server is attached to this demonstration, so nothing was sent.",
    "zh": "您已同意：现在本应发出给 {to} 的邮件。本演示没有接入邮件服务器，所以什么也没有发送。",
}
_REFUSED: Final[dict[Lang, str]] = {
    "en": "You did not agree: the mail to {to} was not sent.",
    "zh": "您没有同意：给 {to} 的邮件没有发送。",
}


async def asked(tide: Tidelog, call: Call, lang: Lang) -> AsyncIterator[Any]:
    """The run of one mail: it waits for a person, is parked after a while, and then goes on with `decided`."""
    mail = dict(call.input or {})
    yield ToolStarted(call=call.id, name=call.name)
    yield ToolInput(call=call.id, input=mail)
    state = {"call": call.id, "mail": mail, "lang": lang}
    value = await tide.ask(_PROMPT[lang].format(to=mail["to"]), options=_OPTIONS[lang], data=mail, state=state)
    async for each in decided(state, Answer("", "answered", value)):
        yield each


async def decided(state: dict[str, Any], answer: Answer) -> AsyncIterator[Any]:
    """What follows the answer, in whatever process it came to."""
    lang: Lang = state["lang"]
    agreed, to = answer.value == _OPTIONS[lang][0], state["mail"]["to"]
    if agreed:
        yield ToolEnded(call=state["call"], output={"to": to, "sent": False, "why": "no mail server is attached"})
    else:
        yield ToolEnded(call=state["call"], outcome="stopped")
    yield (_AGREED if agreed else _REFUSED)[lang].format(to=to)
