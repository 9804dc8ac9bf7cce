// Enhances a page that is whole without it: theme, sorting, and (breakdown.js, power.js) a power plot to look into.
// The three files are one script of the page, inside one function.

const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...inside) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
};

// The theme: the system's, or the one that was chosen, remembered where the browser lets us.
const THEMES = ["system", "dark", "light"];
const themed = []; // what is drawn anew when the colours change
const setTheme = (name) => {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  themed.forEach((redraw) => redraw());
};
let theme = "system";
try { theme = localStorage.getItem("energyprof-theme") || theme; } catch { /* not in a file, then */ }
if (!THEMES.includes(theme)) theme = "system";
setTheme(theme);
byId("theme").hidden = false;
byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem("energyprof-theme", theme); } catch { /* not remembered, then */ }
  setTheme(theme);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themed.forEach((redraw) => redraw()));

// Sorting: rows without a figure last; the baseline's rows stay on top.
const compared = (a, b, index, sign) => {
  const [x, y] = [a.cells[index], b.cells[index]];
  const [p, q] = [x.dataset.v, y.dataset.v];
  if (p !== undefined && q !== undefined) return sign * (p - q);
  if (p !== undefined || q !== undefined) return p !== undefined ? -1 : 1;
  return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
};
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows];
      const fixed = rows.filter((row) => row.dataset.fixed !== undefined);
      const others = rows.filter((row) => row.dataset.fixed === undefined);
      const order = (a, b) => compared(a, b, index, down ? 1 : -1);
      body.append(...fixed.sort(order), ...others.sort(order));
    });
  });
}
