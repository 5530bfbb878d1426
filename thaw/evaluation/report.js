"use strict";
// Sort a table by a column: numbers by size, words by the alphabet; again, the other way round.
function sortBy(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const first = button.dataset.first || "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of head.parentNode.children) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const value = (row) => {
    const cell = row.children[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what has no figure stays last
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value(row), row]);
  rows.sort((a, b) => compare(a[0], b[0]));
  body.append(...rows.map((each) => each[1]));
}

// Show the rows whose names hold the words that are searched for, and say how many.
function search(input) {
  const rows = document.getElementById(input.dataset.table).tBodies[0].rows;
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = [...row.querySelectorAll("th, .left")].map((each) => each.textContent).join(" ").toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById(input.dataset.told).textContent = `${shown} of ${rows.length}`;
}

async function copy(button) {
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed from some files: select it instead
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    document.execCommand("copy");
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

// Controls are of use only with this script, so the page has them hidden.
for (const each of document.querySelectorAll("[data-control]")) each.hidden = false;
for (const head of document.querySelectorAll("table[data-sort] thead th")) {
  if (!head.textContent.trim()) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  if (head.dataset.first) button.dataset.first = head.dataset.first;
  button.addEventListener("click", () => sortBy(button));
  head.append(button);
}
for (const input of document.querySelectorAll("input[data-table]")) {
  input.addEventListener("input", () => search(input));
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", () => copy(button));
}

// A link to what lies in a folded part opens it.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// On paper all is unfolded.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details:not([open])")) each.open = each.dataset.printed = true;
});
addEventListener("afterprint", () => {
  for (const each of document.querySelectorAll("details[data-printed]")) each.open = false;
});

// Mark in the contents the section that is read.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
for (const id of links.keys()) if (document.getElementById(id)) seen.observe(document.getElementById(id));
