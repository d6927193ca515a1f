// Draws the API page from /openapi.json. No library, no network but this server, no HTML from strings: every text of
// the document enters the page as text. The API key lives in the input field and nowhere else.
"use strict";

const METHODS = ["get", "put", "post", "delete"];
const $ = (id) => document.getElementById(id);
let api; // the document

/** Makes an element: attributes by name, `on…` as listeners, children as nodes or text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Follows a reference within the document. */
function resolve(value) {
  let target = value;
  while (target && target.$ref) {
    target = target.$ref.slice(2).split("/").reduce((at, part) => at[part.replaceAll("~1", "/").replaceAll("~0", "~")], api);
  }
  return target;
}

const refName = (schema) => schema && schema.$ref && schema.$ref.split("/").pop();

/** Makes a line of text with `code` spans. */
function line(text) {
  return text.split(/(`[^`]+`)/).map((part) =>
    part.startsWith("`") && part.length > 2 ? h("code", {}, part.slice(1, -1)) : part.replaceAll("\n", " "));
}

/** Splits a description into paragraphs. */
function prose(text) {
  return (text || "").split(/\n\n+/).filter(Boolean).map((paragraph) => h("p", {}, line(paragraph)));
}

/** Colours JSON text. */
function highlighted(text) {
  const code = h("code");
  const token = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|\b(true|false|null)\b/g;
  let last = 0;
  for (const match of text.matchAll(token)) {
    code.append(text.slice(last, match.index));
    const kind = match[1] ? (match[2] ? "k" : "s") : match[3] ? "n" : "l";
    code.append(h("span", { class: kind }, match[1] || match[3] || match[4]), match[2] || "");
    last = match.index + match[0].length;
  }
  code.append(text.slice(last));
  return code;
}

/** Shows a sample that can be copied. */
function sample(value, label) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const button = h("button", { type: "button", "aria-label": `Copy ${label}`, onclick: async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1200);
  } }, "Copy");
  const json = typeof value !== "string" || /^\s*[[{"]/.test(text);
  return h("div", { class: "sample" }, h("pre", { tabindex: 0, "aria-label": label }, json ? highlighted(text) : h("code", {}, text)), button);
}

/** Names the type of a schema, linking to the schemas it refers to. */
function typeOf(schema) {
  const name = refName(schema);
  if (name) return [h("a", { href: `#schema-${name}` }, name)];
  if (!schema) return ["any"];
  const some = schema.oneOf || schema.anyOf;
  if (some) return some.flatMap((one, index) => (index ? [" or ", ...typeOf(one)] : typeOf(one)));
  if (schema.allOf) return schema.allOf.flatMap((one, index) => (index ? [" and ", ...typeOf(one)] : typeOf(one)));
  if (schema.type === "array") return ["array of ", ...typeOf(schema.items)];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "any";
  return [schema.format ? `${type} (${schema.format})` : type];
}

/** Lists the allowed values of an enumeration. */
function values(schema) {
  const list = schema && (schema.enum || (schema.items && schema.items.enum));
  return list ? h("div", { class: "values" }, list.map((value) => h("code", {}, String(value)))) : null;
}

/** Shows the members of an object schema; inline objects are shown in place, named ones are linked. */
function members(schema) {
  if (!schema || refName(schema)) return null;
  if (schema.type === "array") return members(schema.items);
  const some = schema.oneOf || schema.anyOf || schema.allOf;
  const properties = Object.entries(schema.properties || {});
  const parts = [];
  if (properties.length) {
    parts.push(h("ul", { class: "members" }, properties.map(([name, member]) => h("li", {},
      h("span", { class: "name" }, name),
      h("span", { class: "type" }, ...typeOf(member)),
      (schema.required || []).includes(name) ? h("span", { class: "need" }, "required") : null,
      prose(member.description), values(member), members(member)))));
  }
  for (const one of some || []) {
    const inner = members(one);
    if (inner) parts.push(h("div", {}, one.title ? h("p", { class: "dim" }, one.title) : null, inner));
  }
  return parts.length ? h("div", {}, parts) : null;
}

/** Shows a schema: its name when it has one, its members otherwise. */
function shape(schema) {
  return [h("p", { class: "mono dim" }, ...typeOf(schema)), values(schema), members(schema)];
}

const first = (content) => (content ? Object.entries(content)[0] || [] : []);

function exampleOf(media) {
  if (!media) return undefined;
  if (media.example !== undefined) return media.example;
  const named = Object.values(media.examples || {})[0];
  return named && resolve(named).value;
}

const statusClass = (status) => (status < "4" ? "ok" : status < "5" ? "bad" : "fault");
const pretty = (path) => path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? h("i", {}, part) : part));

function parameterList(parameters) {
  return h("ul", { class: "members" }, parameters.map((parameter) => h("li", {},
    h("span", { class: "name" }, parameter.name),
    h("span", { class: "type" }, `${parameter.in} · `, ...typeOf(parameter.schema)),
    parameter.required ? h("span", { class: "need" }, "required") : null,
    prose(parameter.description), values(resolve(parameter.schema)))));
}

function responseList(responses) {
  return Object.entries(responses).map(([status, reference]) => {
    const response = resolve(reference);
    const [type, media] = first(response.content);
    const headers = Object.entries(response.headers || {});
    const example = exampleOf(media);
    return h("details", {},
      h("summary", {}, h("span", { class: `code ${statusClass(status)}` }, status), h("span", {}, line(response.description))),
      type ? h("p", { class: "mono dim" }, type) : null,
      media ? shape(media.schema) : null,
      headers.length ? h("ul", { class: "members" }, headers.map(([name, header]) => h("li", {},
        h("span", { class: "name" }, name), prose(resolve(header).description)))) : null,
      example === undefined ? null : sample(example, `example of status ${status}`));
  });
}

/** Draws one operation. */
function operation(path, method, op) {
  const parameters = (op.parameters || []).map(resolve);
  const body = op.requestBody && resolve(op.requestBody);
  const [type, media] = first(body && body.content);
  const request = exampleOf(media);
  const success = Object.entries(op.responses).find(([status]) => status < "3");
  const answer = success && exampleOf(first(resolve(success[1]).content)[1]);
  const scopes = (op.security || []).flatMap((one) => Object.values(one).flat());
  const open = !(op.security || []).length;
  return h("article", { class: "op", id: op.operationId, "aria-labelledby": `${op.operationId}-title` },
    h("header", {}, h("span", { class: `badge ${method}` }, method.toUpperCase()), h("span", { class: "path" }, pretty(path)),
      h("h3", { id: `${op.operationId}-title` }, op.summary),
      h("span", { class: "scope" }, open ? "no key needed" : scopes.length ? ["scope ", h("code", {}, scopes.join(", "))] : "any key")),
    h("div", { class: "body" },
      h("div", { class: "left" }, prose(op.description),
        parameters.length ? [h("h4", {}, "Parameters"), parameterList(parameters)] : null,
        media ? [h("h4", {}, `Body · ${type}`), prose(body.description), shape(media.schema)] : null,
        h("h4", {}, "Answers"), responseList(op.responses)),
      h("div", { class: "right" },
        request === undefined ? null : [h("h4", {}, "Request"), sample(request, "example request")],
        answer === undefined ? null : [h("h4", {}, "Answer"), sample(answer, "example answer")],
        attempt(path, method, op, parameters, type, request))));
}

/** Draws the form that sends the operation to this server. */
function attempt(path, method, op, parameters, type, example) {
  const fields = parameters.map((parameter) => {
    const id = `${op.operationId}-${parameter.in}-${parameter.name}`;
    const value = parameter.example === undefined || !parameter.required ? "" : String(parameter.example);
    const choices = resolve(parameter.schema || {}).enum;
    const input = choices
      ? h("select", { id }, parameter.required ? null : h("option", { value: "" }, ""), choices.map((choice) => h("option", {}, String(choice))))
      : h("input", { id, value, required: parameter.required, spellcheck: "false", autocomplete: "off", placeholder: parameter.example ?? "" });
    return { parameter, input, row: [h("label", { for: id }, parameter.name, " ", h("small", {}, parameter.in)), input] };
  });
  const bodyId = `${op.operationId}-body`;
  const text = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example, null, 2);
  const body = type ? h("textarea", { id: bodyId, spellcheck: "false" }, text) : null;
  const result = h("div", { class: "result", "aria-live": "polite" });
  const send = h("button", { class: "primary", type: "submit" }, "Send");
  const build = () => {
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of fields) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value === "") continue;
      else if (parameter.in === "query") query.append(parameter.name, input.value);
      else headers[parameter.name] = input.value;
    }
    if ([...query].length) url += `?${query}`;
    if (body) headers["Content-Type"] = type;
    return { url, headers };
  };
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const { url, headers } = build();
    if ($("key").value && (op.security || []).length) headers.Authorization = `Bearer ${$("key").value.trim()}`;
    send.disabled = true;
    const start = performance.now();
    try {
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body ? body.value : undefined, credentials: "omit" });
      const answer = await response.text();
      const took = Math.max(1, Math.round(performance.now() - start));
      let shown = answer;
      try { shown = JSON.stringify(JSON.parse(answer), null, 2); } catch { /* not JSON: shown as it came */ }
      const status = String(response.status);
      result.replaceChildren(
        h("div", { class: "line" }, h("span", { class: `code ${statusClass(status)}` }, `${status} ${response.statusText}`), h("span", { class: "dim" }, `${took} ms`)),
        sample([...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n"), "answer headers"),
        shown ? sample(shown, "answer body") : h("p", { class: "dim" }, "No body."));
    } catch (error) {
      result.replaceChildren(h("p", { class: "error" }, `The request did not get an answer: ${error.message}`));
    } finally {
      send.disabled = false;
    }
  } },
  fields.map((field) => field.row),
  body ? [h("label", { for: bodyId }, "body ", h("small", {}, type)), body] : null,
  h("div", { class: "row" }, send, h("button", { type: "button", onclick: () => result.replaceChildren(sample(curl(method, build(), body, op), "curl command")) }, "Show curl")));
  return h("details", { class: "try" }, h("summary", {}, "Try it"), form, result);
}

/** Writes the request as a command; the key is named, never printed. */
function curl(method, { url, headers }, body, op) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = [`curl -X ${method.toUpperCase()} ${quote(location.origin + url)}`];
  if ((op.security || []).length) lines.push(`-H "Authorization: Bearer $REMIT_KEY"`);
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quote(`${name}: ${value}`)}`);
  if (body) lines.push(`--data-binary ${quote(body.value)}`);
  return lines.join(" \\\n  ");
}

/** Draws the whole page. */
function draw() {
  document.title = api.info.title;
  $("version").textContent = `v${api.info.version}`;
  const index = $("index");
  const page = [h("section", { class: "intro", id: "top" }, h("h1", {}, api.info.title), prose(api.info.description))];
  for (const tag of api.tags) {
    const operations = Object.entries(api.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method] && item[method].tags.includes(tag.name))
      .map((method) => [path, method, item[method]]));
    if (!operations.length) continue;
    index.append(h("section", {}, h("h2", {}, tag.name), h("ul", {}, operations.map(([path, method, op]) =>
      h("li", { "data-text": `${method} ${path} ${op.summary} ${op.operationId}`.toLowerCase() },
        h("a", { href: `#${op.operationId}` }, h("span", { class: `badge ${method}` }, method === "delete" ? "DEL" : method.toUpperCase()), op.summary))))));
    page.push(h("section", { class: "tag" }, h("h2", {}, tag.name), prose(tag.description), operations.map((entry) => operation(...entry))));
  }
  const schemas = Object.entries(api.components.schemas);
  index.append(h("section", {}, h("h2", {}, "Schemas"), h("ul", {}, schemas.map(([name]) =>
    h("li", { "data-text": name.toLowerCase() }, h("a", { href: `#schema-${name}` }, name))))));
  page.push(h("section", { class: "tag" }, h("h2", {}, "Schemas"), schemas.map(([name, schema]) =>
    h("article", { class: "op", id: `schema-${name}` }, h("header", {}, h("h3", {}, name)),
      h("div", { class: "left" }, prose(schema.description), shape(schema))))));
  $("main").replaceChildren(...page);
}

/** Marks the operation in view in the index. */
function follow() {
  const links = new Map([...document.querySelectorAll(".side a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll(".op").forEach((article) => seen.observe(article));
}

function controls() {
  $("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of document.querySelectorAll(".side li")) item.hidden = !words.every((word) => item.dataset.text.includes(word));
    for (const part of document.querySelectorAll("#index section")) part.hidden = !part.querySelector("li:not([hidden])");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      $("filter").focus();
    }
  });
  $("key-form").addEventListener("submit", (event) => event.preventDefault());
  $("key-show").addEventListener("click", () => {
    const shown = $("key").type === "text";
    $("key").type = shown ? "password" : "text";
    $("key-show").textContent = shown ? "Show" : "Hide";
    $("key-show").setAttribute("aria-pressed", String(!shown));
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
}

async function start() {
  controls();
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    api = await response.json();
    draw();
    follow();
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    $("status").className = "error";
    $("status").textContent = `The API description could not be read: ${error.message}`;
  }
}

start();
