"""A server with keys: the page asks for one, once, and keeps it nowhere."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, Page, expect
from tests.browser.driving import ROOT, ask, ended

from tidelog.apps.main import make_app
from tidelog.apps.sign_in import COOKIE
from tidelog.auth import api_keys, new_key
from tidelog.testing import serve

pytestmark = pytest.mark.anyio


async def test_a_key_is_typed_once(page: Page, context: BrowserContext) -> None:
    key = new_key()
    app = make_app(
        "memory:", str(ROOT / "tests/apps/documents/corpus"), principal=api_keys({"ann": key}, cookie=COOKIE)
    )
    async with serve(app) as server:
        await page.goto(server.url)
        await expect(page.locator("#ask")).to_be_hidden()
        await page.locator("#key").fill("安 no key")
        await page.keyboard.press("Enter")
        await expect(page.locator("#unknown")).to_have_text("The server does not know this key.")
        await page.get_by_role("button", name="中文").click()
        await expect(page.locator("#sign-in label")).to_have_text("这个服务器需要密钥。")
        await page.get_by_role("button", name="English").click()
        await page.locator("#key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("#about")).to_be_visible()
        await expect(page.locator("#ask")).to_be_visible()
        await expect(page.locator("#sign-in")).to_be_hidden()
        await ask(page, "What opens at nine?", pace="0")
        await ended(page)
        assert key not in str(await page.evaluate("[document.cookie, {...localStorage}, {...sessionStorage}]"))
        [cookie] = await context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await context.clear_cookies()
        await page.reload()
        await expect(page.locator("#sign-in")).to_be_visible()
