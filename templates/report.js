// Sorts and filters the table of runs, opens what a link leads to, and prints everything. The page is whole without it.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);

  const table = byId("run-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const form = byId("filter");
  const count = byId("filter-count");
  const text = byId("filter-text");
  const state = byId("filter-state");
  const choices = [...form.querySelectorAll("select[data-column]")];

  const key = (row, column) => row.cells[column].dataset.s ?? row.cells[column].textContent.trim();
  const collator = new Intl.Collator("en", { numeric: true });
  // Numbers as numbers, texts as texts; cells without a value are last, whichever the direction.
  const compare = (one, other, sign) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const difference = Number(one) - Number(other);
    return sign * (Number.isNaN(difference) ? collator.compare(one, other) : difference);
  };

  const sort = (head) => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const column = head.cellIndex;
    const keys = new Map(rows.map((row) => [row, key(row, column)]));
    rows.sort((one, other) => compare(keys.get(one), keys.get(other), sign));
    body.append(...rows);
  };
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }

  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const levels = choices.filter((each) => each.value !== "");
    let shown = 0;
    for (const row of rows) {
      const fits =
        (state.value === "" || row.dataset.state === state.value) &&
        levels.every((each) => row.cells[each.dataset.column].dataset.l === each.value) &&
        wanted.every((word) => words.get(row).includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === rows.length ? `${shown} runs` : `${shown} of ${rows.length} runs`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  const details = [...document.querySelectorAll("details.run")];
  const openTarget = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.querySelector("summary").focus({ preventScroll: true });
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", openTarget);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#r']");
    if (link && link.hash === location.hash) openTarget();
  });
  if (location.hash) openTarget();

  const all = byId("open-all");
  all.hidden = details.length < 2;
  all.addEventListener("click", () => {
    const open = details.some((each) => !each.open);
    for (const each of details) each.open = open;
    all.textContent = open ? "Close all" : "Open all";
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = document.body.classList.contains("many") ? [] : [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
