"use strict";
// Sorting, filtering, and the address that remembers both. Without it every table is there, unsorted.

/** Order of two cells: numbers by size, texts by letters, what is missing last whichever way. */
function compareCells(a, b, descending) {
  if (a === "" || b === "") { return a === b ? 0 : a === "" ? 1 : -1; }
  const x = Number(a), y = Number(b);
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  return descending ? -order : order;
}

/** Whether a thing with these facts passes the filters; an empty filter lets everything through. */
function passes(facts, filters) {
  return Object.entries(filters).every(function ([name, wanted]) {
    if (wanted === "" || facts[name] === undefined) { return true; }
    if (name === "search") {
      return wanted.toLowerCase().split(/\s+/).every((word) => facts.search.includes(word));
    }
    if (name === "mask" && wanted === "selected") { return facts.selected === "1"; }
    return facts[name] === wanted;
  });
}

/** Filters out of an address such as `#dataset=beauty&search=gcn`; unknown names are passed over. */
function readAddress(hash, names) {
  const told = new URLSearchParams(hash.replace(/^#/, ""));
  return Object.fromEntries(names.filter((name) => told.has(name)).map((name) => [name, told.get(name)]));
}

/** The address that remembers these filters, those at their defaults left out. */
function writeAddress(filters, defaults) {
  const told = Object.entries(filters).filter(([name, value]) => value !== (defaults[name] || ""));
  return told.length ? "#" + new URLSearchParams(told).toString() : "";
}

function sortTable(button) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const place = Array.prototype.indexOf.call(head.parentNode.children, head);
  const was = head.getAttribute("aria-sort");
  const numbers = head.dataset.kind === "number";
  const descending = was ? was === "ascending" : numbers;
  for (const other of head.parentNode.children) { other.removeAttribute("aria-sort"); }
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = Array.from(body.rows).map((row) => [row.cells[place].dataset.v || "", row]);
  rows.sort((a, b) => compareCells(a[0], b[0], descending));
  body.append(...rows.map((pair) => pair[1]));
}

function start() {
  const form = document.querySelector("form.filters");
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sortTable(button));
  }
  if (!form) { return; }
  form.hidden = false;
  const inputs = Array.from(form.querySelectorAll("select, input[type=search]"));
  const names = inputs.map((input) => input.name);
  const defaults = Object.fromEntries(inputs.map((input) => [input.name, input.dataset.usual || ""]));
  const boards = Array.from(document.querySelectorAll("section.board"));
  const told = form.querySelector("[aria-live]");

  function apply() {
    const filters = Object.fromEntries(inputs.map((input) => [input.name, input.value.trim()]));
    let rows = 0, tables = 0;
    for (const board of boards) {
      let own = 0;
      const there = passes(board.dataset, { ...filters, search: "", backbone: "" });
      if (there) {
        for (const row of board.querySelectorAll("tbody tr[data-search]")) {
          const shown = passes(row.dataset, { search: filters.search, backbone: filters.backbone });
          if (row.hidden === shown) { row.hidden = !shown; }
          own += shown ? 1 : 0;
        }
      }
      board.hidden = own === 0;
      rows += own;
      tables += own ? 1 : 0;
    }
    for (const part of document.querySelectorAll("section.dataset")) {
      part.hidden = !part.querySelector("section.board:not([hidden])");
    }
    document.body.classList.toggle("hide-costs", !form.elements.costs.checked);
    told.textContent = rows + " rows in " + tables + " tables";
    return filters;
  }

  function remember() {
    const address = writeAddress(apply(), defaults);
    try { history.replaceState(null, "", address || location.pathname + location.search); } catch (error) { /* some viewers forbid it */ }
  }

  function restore() {
    const asked = readAddress(location.hash, names);
    for (const input of inputs) { input.value = asked[input.name] !== undefined ? asked[input.name] : defaults[input.name]; }
    apply();
  }

  form.addEventListener("input", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { for (const input of inputs) { input.value = defaults[input.name]; } remember(); }));
  document.addEventListener("keydown", function (event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName || "");
    if (event.key === "/" && !typing) { event.preventDefault(); form.elements.search.focus(); }
    if (event.key === "Escape" && event.target === form.elements.search) { form.elements.search.value = ""; remember(); }
  });
  window.addEventListener("hashchange", function () {
    if (location.hash.includes("=") || location.hash === "") { restore(); }
  });
  restore();
}

if (typeof document !== "undefined") { start(); } else { module.exports = { compareCells, passes, readAddress, writeAddress }; }
