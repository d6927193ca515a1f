// The approval page in a real Chromium, as a phone sees it: `node phone.mjs URL FOLDER [STORY]`.
//
// URL is a Remit. The page comes from there; the requests that it shows are those of `cards.mjs`, and with STORY (JSON:
// `{pending, requester, approver}`, an id and two keys) also a real one, answered in the end. Screenshots go to FOLDER.
// Each check that holds is one line on stdout; the first that does not ends it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { ATTACKS, ID, hostile, request } from "./cards.mjs";

const [url, folder, story] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWPORT = { width: 360, height: 740 };
const WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];

const browser = await chromium.launch({
  executablePath: process.env.REMIT_CHROMIUM || "/usr/bin/chromium",
  // In a container there is often only root, and for root Chromium has no sandbox.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** Opens the page of a request that is answered as `answers` says: by method and last part of the path. */
async function open(answers, { scheme = "light", key = "remit_test_key", id = ID } = {}) {
  const context = await browser.newContext({
    viewport: VIEWPORT, colorScheme: scheme, deviceScaleFactor: 2, isMobile: true, hasTouch: true, locale: "en-GB",
  });
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const seen = { elsewhere: [], sent: [], errors: [] };
  page.on("request", (asked) => asked.url().startsWith(url) || seen.elsewhere.push(asked.url()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("dialog", () => seen.errors.push("a dialog"));
  if (answers) {
    await page.route("**/v1/approvals/**", async (route) => {
      const asked = route.request();
      const how = asked.method() === "GET" ? "get" : asked.url().split("/").pop();
      seen.sent.push({ how, key: asked.headers().authorization, body: asked.postDataJSON() });
      const answer = typeof answers[how] === "function" ? answers[how]() : answers[how];
      if (answer === "down") return route.abort();
      const { status = 200, text, body = answer } = answer ?? { status: 404, body: {} };
      return route.fulfill({ status, contentType: "application/json", body: text ?? JSON.stringify(body) });
    });
  }
  await page.goto(`${url}/approvals/${id}`);
  if (key) await sign(page, key);
  return { page, seen, end: () => context.close() };
}

async function sign(page, key) {
  await page.getByLabel("Your API key").fill(key);
  await page.getByRole("button", { name: "Show the request" }).click();
}

const shown = (page) => page.locator("#card h1").waitFor();
const status = async (page, wanted) => {
  await page.waitForFunction((text) => document.getElementById("status").textContent.includes(text), wanted);
};
const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth);
const picture = (page, name) => page.screenshot({ path: join(folder, name), fullPage: true });

async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: { type: "tag", values } }), WCAG);
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target).join(", ")}`);
  assert.deepEqual(told, []);
}

const checks = {
  async "says what will happen, to whom and how much"() {
    const { page, seen, end } = await open({ get: request() });
    await shown(page);
    const text = await page.locator("#card").innerText();
    for (const part of ["invoice-bot wants to pay 12,500.00 EUR with payments.send", "FI2112345600000785", "Named in the task", "dana",
      "This cannot be undone.", "First time to FI2112345600000785.", "more than 10,000.00", "untrusted", "kept back: string, length 24"]) {
      assert.ok(text.includes(part), `${part} is not in:\n${text}`);
    }
    assert.match(await page.locator("#clock").innerText(), /^9:\d\d left$/);
    const amount = await page.locator(".what .large").boundingBox();
    const sink = await page.locator(".what .sink").boundingBox();
    assert.ok(amount.y + amount.height < VIEWPORT.height && sink.y + sink.height < VIEWPORT.height, "not at first sight");
    const words = page.getByRole("region", { name: "The agent's own words, which nobody has checked" });
    assert.ok((await words.innerText()).includes("Invoice 4712"));
    assert.ok(!(await page.locator("#card h1, .what").allInnerTexts()).join().includes("Invoice 4712"));
    assert.equal(await wide(page), VIEWPORT.width);
    assert.deepEqual([seen.elsewhere, seen.errors], [[], []]);
    assert.equal(seen.sent[0].key, "Bearer remit_test_key");
    await end();
  },

  async "keeps the key in this tab only"() {
    const { page, end } = await open({ get: request() });
    await shown(page);
    const kept = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]);
    assert.deepEqual(kept, [["remit_test_key"], [], "", `${url}/approvals/${ID}`]);
    await page.reload();
    await shown(page);
    await page.getByRole("button", { name: "Forget the key" }).click();
    assert.deepEqual(await page.evaluate(() => Object.values(sessionStorage)), []);
    assert.ok(!await page.locator("#card").isVisible());
    await end();
  },

  async "lets no text become anything but text"() {
    const { page, seen, end } = await open({ get: hostile() });
    await shown(page);
    await page.waitForTimeout(200);
    const found = await page.evaluate(() => ({
      pwned: globalThis.pwned, made: document.querySelectorAll("#card :is(img, script, style, iframe, svg, a, form, input)").length,
      text: document.body.textContent,
    }));
    assert.equal(found.pwned, undefined);
    assert.equal(found.made, 0);
    assert.ok(!/[\u202a-\u202e\u2066-\u2069\u200b\u0000\u0007\u{e0041}]/u.test(found.text), "something is hidden");
    for (const part of ["\\u{202E}", "\\u{200B}", "\\u{0000}", "FI21123456000007\\u{202E}85", ATTACKS[0]]) {
      assert.ok(found.text.includes(part), `${part} is not shown`);
    }
    // Nothing of the call is cut, nor of what is said.
    for (const part of ["#card .rows", "#card .sink.long", "#card blockquote"]) {
      const texts = await page.locator(part).allInnerTexts();
      assert.ok(texts.some((text) => text.includes("TO THE END")), `${part} is cut`);
    }
    // However long it is, it does not push away what is asked.
    const what = await page.locator(".what").boundingBox();
    assert.ok(what.y < VIEWPORT.height / 2, `what is asked begins at ${what.y}`);
    assert.ok(found.text.length < 200_000, `${found.text.length} characters`);
    assert.equal(await wide(page), VIEWPORT.width);
    assert.ok(await page.getByRole("button", { name: "Approve once" }).first().isVisible());
    assert.deepEqual([seen.elsewhere, seen.errors], [[], []]);
    await page.screenshot({ path: join(folder, "phone-hostile.png") });
    await end();
  },

  async "is served with a policy that runs nothing else"() {
    const { page, end } = await open({ get: request() });
    const answer = await page.request.get(`${url}/approvals/${ID}`);
    const policy = answer.headers()["content-security-policy"];
    for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
      assert.ok(policy.includes(part), policy);
    }
    await shown(page);
    const refused = await page.evaluate(() => {
      try {
        document.body.innerHTML = "<b>x</b>";
        return "it was taken";
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refused, "TypeError");
    await end();
  },

  async "changes no number"() {
    const text = JSON.stringify(request()).replace("\"value\":12500", "\"value\":9007199254740993").replace("\"minor\":1250000", "\"minor\":900719925474099321");
    const { page, end } = await open({ get: { text } });
    await shown(page);
    const card = await page.locator("#card").innerText();
    for (const part of ["9007199254740993", "9,007,199,254,740,993.21 EUR"]) assert.ok(card.includes(part), card);
    await end();
  },

  async "approves once what was shown"() {
    let now = request();
    const { page, seen, end } = await open({
      get: () => now,
      approve: () => { now = request({ state: "approved", answers: [{ by: "eve", answer: "approve" }] }); return now; },
    });
    await shown(page);
    await page.getByRole("button", { name: "Approve once" }).click();
    await page.getByLabel("Comment").first().fill("Asked Alder Paper.");
    await page.locator("#once button").click();
    await status(page, "You approved it, once.");
    const sent = seen.sent.find(({ how }) => how === "approve");
    assert.deepEqual(sent.body, { seen: request().card_hash, scope: { kind: "once" }, comment: "Asked Alder Paper." });
    assert.ok(!await page.locator("#answer").isVisible());
    await end();
  },

  async "approves for a task within limits"() {
    const { page, seen, end } = await open({ get: request(), approve: request() });
    await shown(page);
    await page.getByRole("button", { name: "Approve for this task" }).click();
    await page.getByLabel("How often").fill("2");
    await page.getByLabel("For how many minutes").fill("30");
    await page.getByLabel("Amount of all together").fill("20000.5");
    await page.locator("#task button").click();
    await status(page, "It waits for more approvals.");
    const sent = seen.sent.find(({ how }) => how === "approve");
    assert.deepEqual(sent.body, { seen: request().card_hash, scope: { kind: "task", uses: 2, minutes: 30, amount: 2_000_050 } });
    await end();
    // What is asked outside a task is for once only.
    const single = await open({ get: request({}, { task: undefined }) });
    await shown(single.page);
    assert.ok(!await single.page.getByRole("button", { name: "Approve for this task" }).isVisible());
    await single.end();
  },

  async "denies with a reason and not without"() {
    let now = request();
    const { page, seen, end } = await open({ get: () => now, deny: () => { now = request({ state: "denied", ended_by: "eve" }); return now; } });
    await shown(page);
    await page.getByRole("button", { name: "Deny" }).click();
    await page.locator("#deny button").click();
    assert.ok(!seen.sent.some(({ how }) => how === "deny"), "denied without a reason");
    await page.getByLabel("Why not").fill("Not our bank.");
    await page.locator("#deny button").click();
    await status(page, "You denied it.");
    assert.deepEqual(seen.sent.find(({ how }) => how === "deny").body, { seen: request().card_hash, reason: "Not our bank." });
    await end();
  },

  async "says who was first, what has changed, and what is not allowed"() {
    for (const [reply, wanted] of [
      [{ status: 409, body: { detail: "already decided by eve" } }, "already decided by eve"],
      [{ status: 412, body: { detail: "changed" } }, "What is asked has changed since it was shown."],
      [{ status: 403, body: { detail: "not permitted", why: "you asked for it yourself" } }, "Not answered: you asked for it yourself"],
      ["down", "Nothing is known to have been answered"],
    ]) {
      const { page, end } = await open({ get: request(), approve: reply });
      await shown(page);
      await page.getByRole("button", { name: "Approve once" }).click();
      await page.locator("#once button").click();
      await status(page, wanted);
      await end();
    }
  },

  async "says how it stands where nobody waits for an answer"() {
    const ended = { ended_at: "2026-11-26T20:00:00Z" };
    for (const [members, wanted] of [
      [{ state: "approved", ...ended, answers: [{ by: "eve", answer: "approve" }, { by: "fin", for_person: "gus", answer: "approve" }] },
        "Already approved by eve, fin for gus"],
      [{ state: "denied", ...ended, ended_by: "eve", ended_why: "not our bank" }, "Already denied by eve"],
      [{ state: "expired", ...ended }, "it has expired"],
      [{ state: "cancelled", ...ended, ended_by: "gateway" }, "taken back by gateway"],
      [{ mine: { may: false, may_deny: false, why: "you opened the task" } }, "You cannot answer this: you opened the task"],
    ]) {
      const { page, end } = await open({ get: request(members) });
      await shown(page);
      await status(page, wanted);
      assert.ok(!await page.locator("#answer").isVisible(), wanted);
      await accessible(page);
      if (members.state === "approved") await picture(page, "phone-approved.png");
      await end();
    }
  },

  async "lets somebody refuse what they may not approve"() {
    let now = request({ mine: { may: false, may_deny: true, why: "you opened the task" } });
    const { page, seen, end } = await open({ get: () => now, deny: () => { now = request({ state: "denied", ended_by: "dana" }); return now; } });
    await shown(page);
    await status(page, "You cannot approve this: you opened the task");
    for (const name of ["Approve once", "Approve for this task"]) {
      assert.ok(!await page.getByRole("button", { name }).first().isVisible(), name);
    }
    await accessible(page);
    await page.getByRole("button", { name: "Deny" }).first().click();
    await page.getByLabel("Why not").fill("Not mine to pay.");
    await page.locator("#deny button").click();
    await status(page, "You denied it.");
    assert.equal(seen.sent.filter(({ how }) => how === "deny").length, 1);
    await end();
  },

  async "is over when its time is"() {
    const { page, end } = await open({ get: () => request({ expires_at: new Date(Date.now() + 6_000).toISOString() }) });
    await shown(page);
    assert.ok(await page.locator("#answer").isVisible());
    await status(page, "Too late: it has expired.");
    assert.ok(!await page.locator("#answer").isVisible());
    await end();
  },

  async "asks again for a key that is refused, and again when the server is back"() {
    const refused = await open({ get: { status: 401, body: {} } });
    await status(refused.page, "This key is not valid");
    assert.ok(await refused.page.getByLabel("Your API key").isVisible());
    await refused.end();
    const missing = await open({ get: { status: 404, body: {} } });
    await status(missing.page, "There is no such request");
    await missing.end();
    let up = false;
    const down = await open({ get: () => up ? request() : "down" });
    await status(down.page, "The server cannot be reached.");
    up = true;
    await down.page.getByRole("button", { name: "Try again" }).click();
    await shown(down.page);
    await down.end();
    const odd = await open({ get: request() }, { id: "..%2Fkeys", key: null });
    await status(odd.page, "This is no link to a request.");
    await odd.end();
  },

  async "is used with a keyboard alone"() {
    const { page, seen, end } = await open({ get: request(), approve: request({ state: "approved" }) }, { key: null });
    await page.keyboard.type("remit_test_key");
    await page.keyboard.press("Enter");
    await shown(page);
    const reach = async (name) => {
      for (let tries = 0; tries < 30; tries += 1) {
        if (await page.evaluate((wanted) => document.activeElement.textContent.trim() === wanted, name)) return;
        await page.keyboard.press("Tab");
      }
      assert.fail(`${name} is not reached`);
    };
    await reach("Approve once");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await reach("Approve once");
    await page.keyboard.press("Enter");
    await status(page, "You approved it, once.");
    assert.equal(seen.sent.filter(({ how }) => how === "approve").length, 1);
    assert.equal(await page.evaluate(() => document.activeElement.id), "status");
    await end();
  },

  async "is accessible in light and in dark"() {
    for (const scheme of ["light", "dark"]) {
      const { page, end } = await open({ get: request() }, { scheme, key: null });
      await accessible(page);
      await sign(page, "remit_test_key");
      await shown(page);
      await picture(page, `phone-${scheme}.png`);
      for (const choice of ["Approve once", "Approve for this task", "Deny"]) {
        await page.getByRole("button", { name: choice, expanded: false }).click();
        await accessible(page);
      }
      await end();
    }
  },
};

/** A real request: who asked for it can refuse it and no more, somebody else can approve it, and then it is decided. */
async function real({ pending, requester, approver }) {
  const own = await open(null, { key: requester, id: pending });
  await shown(own.page);
  await status(own.page, "You cannot approve this");
  const offered = await own.page.locator("[data-choice]:visible").allInnerTexts();
  assert.deepEqual(offered, ["Deny"]);
  await own.end();
  const other = await open(null, { key: approver, id: pending });
  await shown(other.page);
  assert.deepEqual([other.seen.elsewhere, other.seen.errors], [[], []]);
  assert.equal(await wide(other.page), VIEWPORT.width);
  await accessible(other.page);
  await picture(other.page, "phone-real.png");
  await other.page.getByRole("button", { name: "Approve once" }).click();
  await other.page.locator("#once button").click();
  await status(other.page, "You approved it, once.");
  await other.page.reload();
  await status(other.page, "Already approved by");
  await other.end();
}

if (story) checks["answers a real request"] = () => real(JSON.parse(story));
try {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      error.message = `${name}: ${error.message}`;
      throw error;
    }
    console.log(`ok ${name}`);
  }
} finally {
  await browser.close();
}
