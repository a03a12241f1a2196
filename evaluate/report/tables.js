"use strict";
// The page: links at its top, tables that sort and filter, and the traces of the chosen video.

// ---- links to the parts of the page

const nav = document.querySelector("nav");
for (const part of document.querySelectorAll("main > section")) {
  const link = document.createElement("a");
  link.href = `#${part.id}`;
  link.textContent = part.querySelector("h2").textContent;
  nav.append(link);
}

// ---- what is wider or higher than its place is scrolled by keys, too

for (const box of document.querySelectorAll(".scroll")) {
  const observer = new ResizeObserver(() => {
    const isScrolled = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (isScrolled) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  observer.observe(box);
}
document.documentElement.style.printColorAdjust = "exact"; // checkers of style sheets do not know it yet

// ---- tables: sorted by the titles of their columns, filtered by a field above them

function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.key === undefined) return cell.textContent;
  return cell.dataset.key === "" ? null : Number(cell.dataset.key); // null: there is no value
}

function sortRows(table, column, direction) {
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const x = keyOf(a, column), y = keyOf(b, column);
    if (x === null || y === null) return (x === null) - (y === null); // always last
    const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return direction * order;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // numbers begin with the largest, names with A
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortRows(table, column, order === "ascending" ? 1 : -1);
    });
  });
}

for (const field of document.querySelectorAll("input[data-table]")) {
  const rows = [...document.getElementById(field.dataset.table).tBodies[0].rows];
  const count = field.parentElement.querySelector("output");
  const filter = () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  field.parentElement.hidden = false;
  field.addEventListener("input", filter);
  filter();
}
