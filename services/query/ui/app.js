// The UI of the query service: one page, no build step. Label values are put in as text, never as HTML.
"use strict";
const $ = (selector) => document.querySelector(selector);
const cell = (row, text, className) => {
  const td = row.insertCell();
  td.textContent = text ?? "";
  if (className) td.className = className;
  return td;
};
const metric = (labels) => {
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.entries(rest).map(([k, v]) => `${k}=${JSON.stringify(v)}`);
  return pairs.length || !name ? `${name}{${pairs.join(", ")}}` : name;
};
const api = async (path, params = {}) => {
  const response = await fetch(`api/v1/${path}?${new URLSearchParams(params)}`);
  const json = await response.json();
  return { json, complete: response.headers.get("X-Farview-Complete") === "true" };
};
const bytes = (n) => (n > 1e6 ? `${(n / 1e6).toFixed(1)} MB` : n > 1e3 ? `${(n / 1e3).toFixed(1)} kB` : `${n} B`);

async function run() {
  const expr = $("#expr").value.trim();
  if (!expr) return;
  const graph = $("[name=kind]:checked").value === "graph";
  const params = { query: expr, dedup: $("#dedup").checked, partial_response: $("#partial").checked, completeness: true };
  const url = new URLSearchParams({ "g0.expr": expr, "g0.tab": graph ? "0" : "1", "g0.range_input": `${$("#range").value}s`, "g0.deduplicate": params.dedup ? "1" : "0", "g0.partial_response": params.partial_response ? "1" : "0" });
  history.replaceState(null, "", `?${url}#query`);
  if (graph) {
    const end = Math.floor(Date.now() / 1000), range = Number($("#range").value);
    Object.assign(params, { start: end - range, end, step: Math.max(1, Math.round(range / 250)) });
  }
  const began = performance.now();
  const { json, complete } = await api(graph ? "query_range" : "query", params);
  show(json, complete, performance.now() - began, graph);
}

function show(json, complete, millis, graph) {
  const bar = $("#answer"), notes = $("#notes"), body = $("#table tbody");
  bar.hidden = false;
  notes.replaceChildren();
  body.replaceChildren();
  $("#graph").hidden = true;
  $("#account").hidden = true;
  bar.classList.toggle("incomplete", !complete);
  if (json.status !== "success") {
    bar.textContent = `${json.errorType}: ${json.error}`;
    return;
  }
  const result = json.data.result, account = json.data.completeness;
  const list = Array.isArray(result) && !["scalar", "string"].includes(json.data.resultType) ? result : [{ metric: {}, value: result }];
  const summary = [`${list.length} series in ${Math.round(millis)} ms`];
  if (account) {
    summary.unshift(`${account.answered} of ${account.expected} endpoints answered`);
    const sum = (key) => account.endpoints.reduce((total, endpoint) => total + endpoint[key], 0);
    summary.push(bytes(sum("bytesProcessed")), `${sum("samples").toLocaleString()} samples`);
    const rows = $("#account tbody");
    rows.replaceChildren();
    for (const e of account.endpoints) {
      const row = rows.insertRow();
      cell(row, e.endpointAddr);
      cell(row, `${(e.duration * 1000).toFixed(1)} ms`, "number");
      for (const key of ["bytesProcessed", "series", "chunks", "samples"]) cell(row, e[key].toLocaleString(), "number");
      cell(row, e.error, "bad");
    }
    for (const m of account.missing) {
      const row = rows.insertRow();
      cell(row, m.endpoint);
      for (let i = 0; i < 5; i++) cell(row, "–", "number");
      cell(row, m.reason, "bad");
    }
    for (const [address, reason] of Object.entries(account.skipped)) {
      const row = rows.insertRow();
      cell(row, address);
      for (let i = 0; i < 5; i++) cell(row, "–", "number");
      cell(row, `not asked: ${reason}`);
    }
    $("#account").hidden = false;
  }
  bar.textContent = `${complete ? "complete" : "incomplete"} · ${summary.join(" · ")}`;
  for (const [texts, kind] of [[json.warnings, "warning"], [json.infos, "info"]]) {
    for (const text of texts ?? []) {
      const li = document.createElement("li");
      li.textContent = text;
      li.className = kind;
      notes.append(li);
    }
  }
  if (graph) return draw(result);
  for (const series of list.slice(0, 1000)) {
    const row = body.insertRow();
    const code = document.createElement("code");
    code.textContent = metric(series.metric);
    row.insertCell().append(code);
    const points = series.values ?? (series.value ? [series.value] : []);
    cell(row, points.map((p) => p[1]).join("\n") || "histogram", "number");
  }
}

function draw(result) {
  const svg = $("#graph"), [width, height, left, bottom] = [1000, 320, 70, 24];
  svg.hidden = false;
  svg.replaceChildren();
  const lines = result.filter((s) => s.values).slice(0, 100);
  const points = lines.flatMap((s) => s.values.map(([t, v]) => [t, Number(v)])).filter(([, v]) => Number.isFinite(v));
  if (!points.length) return;
  const [t0, t1] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]))];
  let [v0, v1] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
  if (v0 === v1) [v0, v1] = [v0 - 1, v1 + 1];
  const x = (t) => left + ((t - t0) / (t1 - t0 || 1)) * (width - left - 10);
  const y = (v) => 10 + (1 - (v - v0) / (v1 - v0)) * (height - bottom - 10);
  const add = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    svg.append(node);
    return node;
  };
  for (let i = 0; i <= 4; i++) {
    const v = v0 + ((v1 - v0) * i) / 4, t = t0 + ((t1 - t0) * i) / 4;
    add("line", { x1: left, x2: width - 10, y1: y(v), y2: y(v), stroke: "currentColor", "stroke-opacity": 0.12 });
    add("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, Number(v.toPrecision(4)).toLocaleString());
    add("text", { x: x(t), y: height - 6, "text-anchor": i === 4 ? "end" : i ? "middle" : "start" }, new Date(t * 1000).toLocaleTimeString());
  }
  const body = $("#table tbody");
  lines.forEach((series, i) => {
    const colour = `hsl(${(i * 137) % 360} 65% 50%)`;
    const step = series.values.length > 1 ? series.values[1][0] - series.values[0][0] : 0;
    let path = "", last = null;
    for (const [t, text] of series.values) {
      const v = Number(text);
      if (!Number.isFinite(v)) { last = null; continue; }
      path += `${last !== null && t - last <= step * 1.5 ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
      last = t;
    }
    add("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.6 });
    const row = body.insertRow();
    const code = document.createElement("code");
    code.textContent = metric(series.metric);
    code.style.borderLeft = `12px solid ${colour}`;
    code.style.paddingLeft = "8px";
    row.insertCell().append(code);
  });
}

async function endpoints() {
  const { json } = await api("endpoints");
  const rows = $("#page-endpoints tbody"), names = $("#names tbody"), past = $("#page-history tbody");
  [rows, names, past].forEach((body) => body.replaceChildren());
  const day = (ms) => (Math.abs(ms) > 8e15 ? "–" : new Date(ms).toISOString().slice(0, 19).replace("T", " "));
  for (const e of json.data.endpoints) {
    const row = rows.insertRow();
    cell(row, e.address);
    cell(row, [e.component, e.version].filter(Boolean).join(" "));
    cell(row, e.state, e.inUse ? "good" : "bad");
    cell(row, e.since.slice(0, 19).replace("T", " "));
    cell(row, e.labelSets.map((set) => metric(set)).join("\n"));
    cell(row, day(e.minTime));
    cell(row, day(e.maxTime));
    cell(row, [e.lastError?.text, ...e.notices].filter(Boolean).join("; "), e.inUse ? "" : "bad");
  }
  for (const n of json.data.names) {
    const row = names.insertRow();
    cell(row, n.target);
    cell(row, n.addresses.join(", "));
    cell(row, n.lastAnswer, n.stale ? "bad" : "");
    cell(row, n.lastSuccess?.slice(0, 19).replace("T", " "));
  }
  for (const h of json.data.history.toReversed()) {
    const row = past.insertRow();
    for (const text of [h.at.slice(0, 19).replace("T", " "), h.target, h.address, h.change]) cell(row, text);
  }
}

function page() {
  const here = (location.hash || "#query").slice(1);
  for (const name of ["query", "endpoints", "history"]) {
    $(`#page-${name}`).hidden = name !== here;
    $(`nav a[href="#${name}"]`).classList.toggle("here", name === here);
  }
  if (here !== "query") endpoints();
}

$("#form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("#expr").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); run(); }
});
document.querySelectorAll("input, select").forEach((input) => input.addEventListener("change", run));
addEventListener("hashchange", page);
const given = new URLSearchParams(location.search);
if (given.get("g0.expr")) {
  $("#expr").value = given.get("g0.expr");
  if (["0", "graph"].includes(given.get("g0.tab"))) $("[value=graph]").checked = true;
  if (given.get("g0.deduplicate") === "0") $("#dedup").checked = false;
  if (given.get("g0.partial_response") === "0") $("#partial").checked = false;
  run();
}
page();
