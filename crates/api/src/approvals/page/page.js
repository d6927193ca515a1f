// Shows one access request to a person, and sends the answer. No library, no network but this server, no HTML from
// strings: every text enters the page as text. The API key lives in this tab's session storage and nowhere else.
"use strict";

const $ = (id) => document.getElementById(id);
const KEY = "remit.approval.key";
const BRIEF = 80; // in the first lines, which stand in full further down
const TRIES = { "Content-Type": "application/json" };
const id = decodeURIComponent(location.pathname.split("/").pop() || "").toLowerCase();
const path = `/v1/approvals/${encodeURIComponent(id)}`;

let request; // what was last read
let skew = 0; // the server's clock less this one's, in ms
let ticking;
let sent = {}; // the answer that was sent last, and its name

// === Text ===

/** Makes an element: attributes by name, children as nodes or text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Shows what cannot be seen or turns the direction of other text; whole, since the server has cut what may be cut. */
function visible(value, longest = Infinity) {
  const letters = [...String(value)];
  const shown = letters.slice(0, longest).join("")
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/gu,
      (hidden) => hidden === "\n" ? hidden : `\\u{${hidden.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}}`);
  return letters.length > longest ? `${shown}… (${letters.length - longest} more)` : shown;
}

/** Text that somebody else wrote, kept to itself. */
const theirs = (value, style = "", longest = Infinity) => h("bdi", { class: style, dir: "ltr" }, visible(value, longest));
const brief = (value) => theirs(value, "", BRIEF);

const NUMBER = "\ue000";
/** Reads JSON; a number that would come out otherwise than it is written stays as it is written. */
function parse(text) {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g,
    (token) => token.startsWith('"') || String(Number(token)) === token ? token : JSON.stringify(NUMBER + token)));
}

/** Writes a value as its owner wrote it. */
function written(value) {
  if (typeof value === "string") return value.startsWith(NUMBER) ? value.slice(1) : value;
  if (value === null || typeof value !== "object") return String(value);
  return JSON.stringify(value, (_, inner) => typeof inner === "string" && inner.startsWith(NUMBER) ? inner.slice(1) : inner, 2);
}

const many = (list) => Array.isArray(list) ? list : [];
const uid = (entity) => entity && (typeof entity === "string" ? entity : `${entity.type}:${entity.id}`);
const time = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** The currency that the call names, if it does. */
function currencyOf(card) {
  const named = many(card.call.arguments).find(({ name, value }) => name === "currency" && /^[A-Za-z]{3}$/.test(value));
  return named ? named.value : "";
}

/** Writes an amount of the smallest unit as people do, without a detour over fractions. */
function money(card) {
  const { amount } = card;
  if (!amount) return null;
  let digits = written(amount.minor).padStart((amount.scale || 0) + 1, "0");
  const cents = amount.scale ? digits.slice(-amount.scale) : "";
  digits = (amount.scale ? digits.slice(0, -amount.scale) : digits).replace(/\B(?=(\d{3})+$)/g, ",");
  const whole = cents ? `${digits}.${cents}` : digits;
  return `${whole} ${currencyOf(card)}`.trim();
}

// === What is asked ===

const VERBS = {
  read: "read something", write: "change something", egress: "send something out", pay: "move money", destroy: "delete something",
  exec: "run code", credential: "change or hand out a secret", delegate: "hand work to another agent",
};

/** Says in one sentence what will happen. */
function sentence(card) {
  const amount = money(card);
  const does = amount && card.call.effect === "pay" ? ["pay ", brief(amount)] : [VERBS[card.call.effect]];
  // What no catalogue knows is called by its name alone.
  if (!does[0]) return h("h1", {}, brief(card.agent.id), " wants to do ", brief(card.call.action), " on ", brief(uid(card.call.resource)), ".");
  return h("h1", {}, brief(card.agent.id), " wants to ", does, " with ", brief(card.call.action), ".");
}

const mark = (tone, ...text) => h("span", { class: `mark ${tone}` }, ...text);

function sinkOf(sink) {
  const text = written(sink.value);
  return h("dd", {},
    theirs(text, text.length > 60 ? "sink long" : "sink"),
    sink.looks_like && mark("bad", "Looks like ", theirs(sink.looks_like), " and is not"),
    sink.declared ? mark("good", "Named in the task") : mark("warn", "Not named in the task"),
    sink.trusted && !sink.declared && mark("good", "From a trusted result"));
}

function main(card) {
  const list = h("dl", { class: "what" });
  const amount = money(card);
  if (amount) list.append(h("dt", {}, "Amount"), h("dd", {}, theirs(amount, "large")));
  const sinks = many(card.sinks);
  if (sinks.length) list.append(h("dt", {}, sinks.length > 1 ? `${sinks.length} recipients` : "Recipient"), ...sinks.map(sinkOf));
  list.append(h("dt", {}, "On"), h("dd", {}, theirs(uid(card.call.resource), sinks.length ? "" : "sink")));
  return list;
}

/** Makes a list of names and values; what is not there is left out. */
function rows(...pairs) {
  const list = h("dl", { class: "rows" });
  for (const [name, value] of pairs) {
    if (value !== undefined && value !== null && value !== "") list.append(h("dt", {}, name), h("dd", {}, value));
  }
  return list;
}

const own = (value) => value === undefined || value === null || value === "" ? null : theirs(written(value));

function who(card) {
  const { agent, task } = card;
  return [
    h("h2", {}, "Who asks, and for whom"),
    rows(["Agent", own(uid(agent))], ["Its purpose", own(agent.purpose)], ["Answers for it", own(agent.owner)],
      ["Task", task && own(task.purpose)], ["Opened by", task && own(task.opened_by)], ["For", task && own(uid(task.on_behalf_of))],
      ["Asked by", own(request.requested_by)],
      ["Behind it", many(card.chain).length ? many(card.chain).map((hop) => h("div", {}, own(uid(hop)))) : null]),
  ];
}

function why(card) {
  const reasons = many(card.reasons).map((reason) => h("li", { class: "reason" },
    theirs(reason.advice || "A control forbids it without a person's approval."),
    h("small", { class: "dim" }, theirs(reason.policy), reason.severity && `, severity ${visible(reason.severity)}`)));
  return [h("h2", {}, "Why a person must decide"), h("ul", { class: "plain" }, reasons)];
}

function hints(card) {
  const { reversible, first_tool: tool, first_sinks: sinks, recent_refusals: refusals } = card.hints || {};
  const lines = [
    reversible === false && (card.call.effect ? ["bad", "This cannot be undone."]
      : ["warn", "It is in no catalogue: nobody has said what it does, or whether it can be undone."]),
    tool && ["warn", "This agent has not used this tool before."],
    ...many(sinks).map((sink) => ["warn", "First time to ", theirs(sink), "."]),
    Number(refusals) > 0 && ["warn", `Refused lately: ${refusals} ${Number(refusals) === 1 ? "request" : "requests"} of this agent.`],
  ].filter(Boolean);
  return lines.length ? [h("h2", {}, "Look twice"),
    h("ul", { class: "plain" }, lines.map(([tone, ...text]) => h("li", { class: tone }, text)))] : [];
}

function labels(card) {
  const touched = many(card.task && card.task.labels);
  return touched.length ? [h("h2", {}, "What the task has touched"), h("ul", { class: "plain" }, touched.map((label) =>
    h("li", { class: label.label === "untrusted" ? "warn" : "" }, theirs(label.label),
      label.decision && h("small", { class: "mono" }, "by decision ", theirs(label.decision)))))] : [];
}

function call(card) {
  const properties = many(card.call.properties).map((property) => ({ ...property, name: `resource ${property.name}` }));
  const values = [...many(card.call.arguments), ...properties].map(({ name, type, value, redacted }) => [theirs(name),
    redacted ? h("span", { class: "dim" }, `kept back: ${visible(redacted.type)}, length ${visible(redacted.length)}`)
      : [theirs(value === "" ? "(empty)" : written(value), "mono"), type && h("small", { class: "dim" }, ` ${visible(type)}`)]]);
  return [h("h2", {}, "Exactly this call"),
    rows(["Action", theirs(card.call.action, "mono")], ["Resource", theirs(uid(card.call.resource), "mono")], ...values)];
}

function said(card) {
  const texts = many(card.said_by_agent).filter((said) => said.text);
  return texts.length ? [h("section", { class: "said", "aria-labelledby": "said-title" },
    h("h2", { id: "said-title" }, "The agent's own words, which nobody has checked"),
    texts.map((said) => [h("div", { class: "dim" }, visible(said.what)), h("blockquote", { tabindex: "0" }, theirs(said.text))]))] : [];
}

function proof(card) {
  return h("details", {}, h("summary", {}, "For the record"),
    rows(["Request", theirs(request.id, "mono")], ["Denied by", own(request.decision)],
      ["Call", card.call.digest && theirs(card.call.digest, "mono")], ["Shown", theirs(request.card_hash, "mono")]));
}

// === How it stands ===

const byWhom = (answers, word) => many(answers).filter((answer) => answer.answer === word)
  .map((answer) => answer.for_person ? `${answer.by} for ${answer.for_person}` : answer.by).join(", ");

/** Says how it stands; nothing where it waits for this person. */
function standing() {
  const { state, answers, mine } = request;
  const last = request.ended_at ? `, ${time(request.ended_at)}` : "";
  const reason = request.ended_why ? `: ${request.ended_why}` : "";
  switch (state) {
    case "approved": {
      const until = request.approved_until ? ` It can be used until ${time(request.approved_until)}.` : "";
      return ["good", `Already approved by ${byWhom(answers, "approve") || many(request.approvers).join(", ")}${last}.${until}`];
    }
    case "denied": return ["bad", `Already denied by ${byWhom(answers, "deny") || request.ended_by}${last}${reason}`];
    case "expired": return ["warn", `Too late: it has expired${last}${reason}. Whoever asked may ask again.`];
    case "cancelled": return ["warn", `It was taken back by ${request.ended_by || "whoever asked"}${last}${reason}`];
    default: return mine && mine.may === false
      ? ["warn", `You cannot ${mine.may_deny ? "approve" : "answer"} this: ${mine.why || "you are no approver of it"}`] : null;
  }
}

function say(tone, text) {
  $("status").className = tone;
  $("status").textContent = visible(text);
}

function left() {
  return Math.floor((new Date(request.expires_at) - Date.now() - skew) / 1000);
}

/** Counts down, and says so when it is over. */
function tick() {
  const seconds = left(), clock = $("clock");
  if (!clock) return;
  if (seconds <= 0) {
    clearInterval(ticking);
    clock.textContent = "expired";
    $("answer").hidden = true;
    say("warn", "Too late: it has expired. Whoever asked may ask again.");
    return;
  }
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  clock.textContent = hours ? `${hours}:${two(minutes)}:${two(seconds % 60)} left` : `${minutes}:${two(seconds % 60)} left`;
}

function waitsFor() {
  const persons = (number) => number === 1 ? "1 person" : `${number} persons`;
  const waits = many(request.progress).filter(({ needed, approved }) => needed > approved).map(({ group, needed, approved }) =>
    group === "" || group === "any" ? persons(needed - approved) : `${persons(needed - approved)} of ${group}`);
  return waits.length ? `Waits for ${waits.join(", ")}` : "Waits for an answer";
}

/** Draws what was read. */
function draw() {
  const { card } = request;
  const open = request.state === "pending";
  document.title = `${open ? "Approve?" : "Approval"} ${visible(card.call.action)} · Remit`;
  $("card").replaceChildren(...[
    open && h("p", { class: "state" }, h("span", { class: "dim" }, visible(waitsFor(), BRIEF)),
      h("b", { id: "clock", role: "timer", "aria-label": "Time left" })),
    sentence(card), main(card), ...hints(card), ...why(card), ...who(card), ...labels(card), ...call(card), ...said(card), proof(card),
  ].filter(Boolean));
  $("card").hidden = false;
  $("sign-in").hidden = true;
  $("forget").hidden = false;
  const stands = standing();
  say(...(stands || ["", ""]));
  const mayDeny = Boolean(request.mine && request.mine.may_deny);
  $("answer").hidden = !open || Boolean(stands) && !mayDeny;
  const task = Boolean(card.task);
  for (const [choice, offered] of [["once", !stands], ["task", !stands && task], ["deny", mayDeny]]) {
    document.querySelector(`[data-choice=${choice}]`).hidden = !offered;
    if (!offered) $(choice).hidden = true;
  }
  document.querySelector("[data-choice=once]").toggleAttribute("data-alone", !task);
  $("task-amount-row").hidden = !card.amount;
  $("task-amount").required = Boolean(card.amount);
  if (card.amount) {
    const currency = currencyOf(card);
    $("task-amount-label").textContent = currency ? `Amount of all together, in ${currency}` : "Amount of all together";
  }
  clearInterval(ticking);
  if (open) {
    ticking = setInterval(tick, 1000);
    tick();
  }
}

// === Asking and answering ===

/** Sends a request with the key; returns the status and what came back. */
async function send(method, where, body, name) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY)}`, ...(body ? TRIES : {}), ...(name ? { "Idempotency-Key": name } : {}) };
  const answer = await fetch(where, { method, headers, cache: "no-store", credentials: "omit", body });
  const now = Date.parse(answer.headers.get("date"));
  if (now) skew = now - Date.now();
  const text = await answer.text();
  try {
    return { status: answer.status, body: parse(text) };
  } catch {
    return { status: answer.status, body: {} };
  }
}

/** Names what went wrong, in the words of the server where it has any. */
const told = ({ status, body }) => body.why || body.detail || body.title || `the server answered ${status}`;

function askForKey(why) {
  sessionStorage.removeItem(KEY);
  $("card").hidden = $("answer").hidden = $("again").hidden = $("forget").hidden = true;
  $("sign-in").hidden = false;
  say(why ? "bad" : "", why || "");
  $("key").value = "";
  $("key").focus();
}

async function load() {
  $("again").hidden = true;
  if (!/^[0-9a-f-]{36}$/.test(id)) return say("bad", "This is no link to a request.");
  if (!sessionStorage.getItem(KEY)) return askForKey();
  let answer;
  try {
    answer = await send("GET", path);
  } catch {
    answer = { status: 0, body: { detail: "The server cannot be reached." } };
  }
  switch (answer.status) {
    case 200:
      request = answer.body;
      return draw();
    case 401: return askForKey("This key is not valid, or not any more.");
    case 403: return askForKey(`You may not see this: ${told(answer)}`);
    case 404: return say("bad", "There is no such request, or none that you may see.");
    default:
      say("bad", told(answer));
      $("again").hidden = false;
  }
}

/** Names what is sent, so that the same answer sent again, since nothing was heard, is the same answer. */
function named(text) {
  if (sent.text !== text) {
    const random = crypto.getRandomValues(new Uint8Array(16));
    sent = { text, name: Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("") };
  }
  return sent.name;
}

/** Sends the answer; what was shown is part of it. */
async function answer(how, body, done) {
  const text = JSON.stringify({ seen: request.card_hash, ...body });
  const buttons = document.querySelectorAll("#answer button");
  buttons.forEach((button) => { button.disabled = true; });
  let reply;
  try {
    reply = await send("POST", `${path}/${how}`, text, named(`${how} ${text}`));
  } catch {
    reply = { status: 0, body: { detail: "The server cannot be reached. Nothing is known to have been answered: try again." } };
  }
  buttons.forEach((button) => { button.disabled = false; });
  if (reply.status === 401) return askForKey("This key is not valid, or not any more.");
  // What was decided meanwhile, or looks otherwise now, is read again before anything is said.
  if (reply.status < 300 && reply.status >= 200 || reply.status === 409 || reply.status === 412) await load();
  if (reply.status === 412) say("warn", "What is asked has changed since it was shown. Read it again before you answer.");
  else if (reply.status === 409) say("warn", told(reply));
  else if (reply.status >= 200 && reply.status < 300) {
    const more = request && request.state === "pending" ? " It waits for more approvals." : "";
    $("answer").hidden = true;
    say(how === "approve" ? "good" : "bad", done + more);
  } else say("bad", `Not answered: ${told(reply)}`);
  $("status").tabIndex = -1;
  $("status").focus();
}

/** Makes what was typed an amount in the smallest unit. */
function smallest(text, scale = 0) {
  const [whole, fraction = ""] = text.split(".");
  return fraction.length > scale ? null : Number(whole + fraction.padEnd(scale, "0"));
}

function choose(choice) {
  for (const button of document.querySelectorAll("[data-choice]")) {
    const chosen = button.dataset.choice === choice && button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(chosen));
    $(button.dataset.choice).hidden = !chosen;
    if (chosen) $(choice).querySelector("input, textarea").focus();
  }
}

function submitted(form, work) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    work();
  });
}

/** Makes what was typed one line, as it is kept. */
const line = (field) => $(field).value.replace(/\s+/g, " ").trim().normalize("NFC");
const comment = (field) => line(field) ? { comment: line(field) } : {};

document.querySelectorAll("[data-choice]").forEach((button) => button.addEventListener("click", () => choose(button.dataset.choice)));
submitted("sign-in", () => {
  // A key has no space in it: what is pasted on a phone often has.
  sessionStorage.setItem(KEY, $("key").value.trim());
  load();
});
submitted("once", () => answer("approve", { scope: { kind: "once" }, ...comment("once-comment") }, "You approved it, once."));
submitted("task", () => {
  const scope = { kind: "task", uses: Number($("task-uses").value), minutes: Number($("task-minutes").value) };
  const typed = $("task-amount").value.trim();
  if (typed && request.card.amount) {
    scope.amount = smallest(typed, request.card.amount.scale);
    if (scope.amount === null || !Number.isSafeInteger(scope.amount)) return say("bad", "The amount has more places than there are, or is too large.");
  }
  answer("approve", { scope, ...comment("task-comment") }, "You approved it for this task, within the limits.");
});
submitted("deny", () => answer("deny", { reason: line("deny-reason") }, "You denied it."));
$("forget").addEventListener("click", () => askForKey());
$("again").addEventListener("click", load);
load();
